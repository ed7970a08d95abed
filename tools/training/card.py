"""The model card with a short datasheet (Mitchell et al. 2019; Gebru et al. 2021), written from the manifest.

No figure is copied by hand: the fixed text below holds none.
"""

from __future__ import annotations

from typing import Final

from device.inference.manifest import Manifest, Metric

_HEAD: Final = """\
# Model card: Moodline bundle {version}

**These networks recognise acted expression, not felt emotion.** They learned from actors who spoke given sentences in
a given manner, and from pictures that ten strangers voted on. What a person feels cannot be read from their answers.

## Use

- Intended: research and demonstration on consenting adults; measuring the product's own line, delay and privacy.
- Forbidden: grading, discipline, attendance, hiring, diagnosis, security, and any decision about a person. In the
  European Union the AI Act (Article 5(1)(f)) prohibits systems that infer emotions of persons in education and at
  work from biometric signals, except for medical or safety reasons.
- Not for sale: RAVDESS and nEMO are CC BY-NC-SA 4.0 and the FER2013 pictures are for research, so the weights are for
  **non-commercial research**, with the sets named, and what is made from them stays under the same terms.
- People who are seen or heard must know and agree. A box abstains often; an abstention says nothing about the person.

## What is in the bundle

| network | multiply-accumulates | parameters |
| --- | --- | --- |
{networks}

Classes: {classes}. Speech was taught all of them; faces were **never taught boredom**: no face set has it, so a bored
face counts as a neutral one. All networks are full int8 TFLite files; `golden/` holds inputs and outputs that are run
at every load.

How speech was taught: in two stages. A convolutional network over time learned from RAVDESS and nEMO alone. What it
and statistics of the window say is pooled into one row of numbers, on which a small ensemble learned from all three
corpora. The fused head learned from what the same recipe says about speakers that neither of its stages had heard.

## Training material and its terms

| set | used for | items | terms |
| --- | --- | --- | --- |
{sets}

The FER2013 pictures were collected by web search without asking the people in them. Whoever ships a product must
settle that, and the non-commercial terms of the voices, first.

"""

_DATASHEET: Final = """\
## Datasheet of the training material

| | EMO-DB | RAVDESS, speech | nEMO | FER2013 with FER+ votes |
| --- | --- | --- | --- | --- |
| who | ten actors, five women and five men | 19 of 24 actors, ten women and nine men | seven of nine actors | \
unknown people, found by web search |
| language | German | English (North America) | Polish | none |
| what | ten neutral sentences, acted | two neutral sentences, acted, two intensities | neutral sentences, acted | \
grey pictures, 48 x 48 pixels |
| where | an anechoic room | a recording studio | see its paper | anywhere |
| label | what was to be acted, where most listeners recognised it | what was to be acted; calm counts as neutral | \
what was to be acted | shares of ten raters' votes |
| classes of ours | all but surprise | all but boredom | all but boredom and disgust | all but boredom |
| left out | nothing | actor 01, who is the demo's, and actors 21 to 24 | two speakers | \
contempt, unknown, no face; copies of evaluation pictures |
| consent | actors who took part | actors who took part | actors who took part | nobody was asked |

Groups: adults whose sex is noted for the voices and unknown for the faces. Nobody's age, skin colour, accent or
health is a label, so nothing is known about them. **Children were not measured**, and no child's voice was knowingly
learned from.

"""

_FIGURES: Final = """\
## Figures

Intervals are 95 %; the note of a figure says over what they are taken, and where the figure stands in the
evaluation's `results.json` or `goals.json`. Differences are in points.

| figure | value | items |
| --- | --- | --- |
{figures}

{protocols}
"""

_TAIL: Final = """\

How to read them:

- The shipped speech network is taught on every speaker of its corpora, so no held-out figure exists for that very
  file; the figures are those of its recipe on speakers whom it left out. The recipe's sizes and rates were settled on
  the six training speakers of EMO-DB's fixed split, who are among the speakers of leave-one-speaker-out: for them the
  figures are slightly flattering. Which statistics are taken goes back to the first bundle, when all ten were looked
  at.
- A mean over speakers hides the **worst speaker**, whose figure stands beside it where it was measured.
- The fused figures of synthetic pairs are optimistic: given the label, voice and face err independently there. Real
  errors are correlated (one person, one intensity). The log-opinion pool is the right answer for such pairs of
  calibrated senses, so the head cannot honestly beat it by much. With one sense absent a box answers by the single
  branch and does not ask the head.

## What fails

- Spontaneous speech, other languages, several voices at once, children and older adults: **not measured**, no claim
  is possible. Adult-trained face networks are known to be weak on children.
- Strange voices of a corpus that was learned from have that corpus's language, room and microphone. Expect a voice
  without them to be recognised much worse; the cross-corpus figure above says how much, where it was measured.
- Fairness: a few dozen actors cannot show fairness by sex, and nothing here measures it by age, skin colour or
  accent.
- Happiness and anger are confused in speech (both loud and high), neutral and boredom too. Boredom is known from ten
  German actors alone; nothing shows that it is told in another voice. Disgust and fear are rare in FER+ and weak in
  faces.
- Confidence is calibrated on studio speech and web pictures; elsewhere expect it to be too high.

## Decision

{decision}

Made by `{command}`, seed {seed}, with {tools}.
"""


def card(manifest: Manifest) -> str:
    """The card's text (Markdown)."""
    protocols = list(dict.fromkeys(metric.protocol for metric in manifest.metrics))
    head = _HEAD.format(
        version=manifest.version,
        networks="\n".join(
            f"| {name} | {facts.multiply_accumulates:,} | {facts.parameters:,} |"
            for name, facts in manifest.networks.items()
        ),
        classes=", ".join(manifest.classes["fusion"]),
        sets="\n".join(
            f"| {one.name} ({one.source}) | {one.used_for} | {one.items:,} | {one.terms} |"
            for one in manifest.trained_on
        ),
    )
    figures = _FIGURES.format(
        figures="\n".join(_row(metric, protocols.index(metric.protocol) + 1) for metric in manifest.metrics),
        protocols="\n".join(f"{number}. {protocol}." for number, protocol in enumerate(protocols, start=1)),
    )
    parameters = manifest.decision
    tail = _TAIL.format(
        decision=(
            f"Below a smoothed probability of {parameters.confidence_min:g} the answer is an abstention (from there on "
            "an answer was more often right than wrong on training-side tokens). Voice and face both above "
            f"{parameters.conflict_confidence:g} for different classes is a conflict (at most one in twenty matching "
            "pairs on the training side)."
        ),
        command=manifest.origin.command,
        seed=manifest.origin.seed,
        tools=", ".join(f"{name} {version}" for name, version in manifest.origin.tools.items()),
    )
    return head + _DATASHEET + figures + tail


def _row(metric: Metric, protocol: int) -> str:
    value = f"{metric.value:.4f}" if "error" in metric.name else _percent(metric)
    return f"| {metric.name} [{protocol}] | {value} | {metric.items:,} |"


def _percent(metric: Metric) -> str:
    return f"{100 * metric.value:.1f} % ({100 * metric.low:.1f} to {100 * metric.high:.1f})"
