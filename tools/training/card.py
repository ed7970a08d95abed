"""The model card, written from the manifest so that no figure is copied by hand (Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Final

from device.inference.manifest import Manifest, Metric

_HEAD: Final = """\
# Model card: Moodline bundle {version}

**These networks recognise acted expression, not felt emotion.** They were trained on actors who spoke given sentences
in a given manner, and on pictures that ten strangers voted on. What a person feels cannot be read from their answers.

## Use

- Intended: research and demonstration on consenting adults; measuring the product's own line, delay and privacy.
- Forbidden: grading, discipline, attendance, hiring, diagnosis, security, and any decision about a person. In the
  European Union the AI Act (Article 5(1)(f)) prohibits systems that infer emotions of persons in education and at work
  from biometric signals, except for medical or safety reasons.
- People who are seen or heard must know and agree. A box abstains often; an abstention says nothing about the person.

## What is in the bundle

| network | multiply-accumulates | parameters |
| --- | --- | --- |
{networks}

Classes: {classes}. Speech was never taught surprise and faces were never taught boredom. All networks are full int8
TFLite files; `golden/` holds inputs and outputs that are run at every load.

## Training material and its terms

| set | used for | items | terms |
| --- | --- | --- | --- |
{sets}

The FER2013 pictures were collected by web search without asking the people in them. Weights made from them are for
research; whoever ships a product must settle that first.

## Figures

Intervals are 95 %: Wilson for accuracies, bootstrap over items for macro recalls (for an error, no interval is given).

| figure | value | items |
| --- | --- | --- |
{figures}

{protocols}
"""

_TAIL: Final = """\

How to read them:

- The shipped speech network is trained on all ten speakers, so no held-out figure exists for that very file; the
  figures are those of its recipe with one speaker left out at a time. The recipe's shape (which statistics, how wide,
  how long) was settled by looking at these same folds, and the temperature is fitted on their answers, so the speech
  figures are slightly flattering.
- The fused figures come from synthetic pairs: given the label, voice and face err independently there. Real errors are
  correlated (one person, one intensity), so expect less. The log-opinion pool is the right answer for such pairs of
  calibrated senses, so the head cannot honestly beat it by much where both senses know the label; its gain is in
  boredom and surprise, which only one sense knows. How strongly the head is held to the pool was settled by looking at
  these test episodes. With one sense absent the head is a little worse than the pool; a box then answers by the
  single branch and does not ask the head.

## What fails

- Other languages, spontaneous speech, far microphones, several voices: not measured. EMO-DB is ten German actors of 21
  to 35 years in a quiet studio. Cross-corpus losses of 10 to 40 points are usual for one-corpus training.
- Children and older adults: **not measured**, no claim is possible. Adult-trained face networks are known to be weak on
  children.
- Fairness: ten speakers (five women, five men) cannot show fairness by sex, and nothing here measures it by age, skin
  colour or accent.
- Happiness and anger are confused in speech (both loud and high), neutral and boredom too; disgust and fear are rare in
  FER+ and weak in faces.
- Confidence is calibrated on studio speech and web pictures; elsewhere it is too high.

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
    return head + tail


def _row(metric: Metric, protocol: int) -> str:
    value = f"{metric.value:.4f}" if "error" in metric.name else _percent(metric)
    return f"| {metric.name} [{protocol}] | {value} | {metric.items:,} |"


def _percent(metric: Metric) -> str:
    return f"{100 * metric.value:.1f} % ({100 * metric.low:.1f} to {100 * metric.high:.1f})"
