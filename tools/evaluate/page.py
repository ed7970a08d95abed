"""The report's fixed words and HTML pieces. Every text that comes from elsewhere is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

_WHOLE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Moodline: evaluation</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; color: #1a1a1a }}
h1 {{ font-size: 1.6rem }} h2 {{ font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc }}
h3 {{ font-size: 1rem }}
.law {{ border-left: 4px solid #D55E00; background: #fdf3ec; padding: .5rem 1rem }}
.headline {{ font-size: 1.2rem }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }}
th, td {{ border: 1px solid #ddd; padding: .25rem .5rem; text-align: left; vertical-align: top }}
th {{ background: #f3f3f3 }}
tr.unfit td {{ color: #555; background: repeating-linear-gradient(45deg, #fafafa 0 6px, #f1f1f1 6px 12px) }}
tr.met td {{ background: #e8f5f0 }} tr.missed td {{ background: #fdeee6 }}
figure {{ margin: 1.5rem 0; overflow-x: auto }} figure svg {{ max-width: 100%; height: auto }}
figcaption {{ font-size: .85rem; color: #444 }}
.absent {{ color: #555; font-style: italic }}
</style>
</head>
<body>
<h1>Moodline: evaluation</h1>
<div class=law><p><b>The law, first.</b> Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f), prohibits AI systems that
infer emotions of people in education institutions and workplaces, except for medical or safety reasons.</p>
<p><b>Acted expression, not felt emotion.</b> All figures are about actors who spoke given sentences in a given manner,
and about pictures that strangers voted on. Nobody's feelings were measured. No figure holds for children.</p></div>
{headline}
{sections}
</body>
</html>
"""

LADDER: Final = """\
<p>The same systems, by every protocol. Only the protocol changes from line to line, so the differences are what a
protocol is worth. The leaky line, hatched, is not a result: copies of a clip are on both sides of its split. It is the
only line that the source paper's 98.75 % may be compared with.</p>
"""

INTERVALS: Final = """\
<p>Each figure is a mean over seeds of all folds' answers together, with its 95 % interval: the widest of Student's t
over seeds, the bootstrap over clips (within classes), and, where speakers are unseen, the bootstrap over speakers. All
of them stand in <code>results.json</code>. Precision, F1 and recall are macro averages. ECE has ten bins of equal
numbers of answers; its bootstrap leans upwards. Hatched lines are no results.</p>
"""

PAPER: Final = """\
<p>The source paper's numbers are printed where they belong, but its split could not be rebuilt: 20 % of 535 clips are
107, and 98.75 % is no share of 107 (105 right are 98.13 %, 106 are 99.07 %). No line here is better or worse than the
paper by these figures.</p>
"""

PITFALLS: Final = """\
<p>The harness refuses, each with a test: a speaker, a sentence, a recording or equal file content on both sides of a
split that excludes it; copies of a recording on both sides anywhere but in the leaky protocol; answers that are not the
last epoch's; a system whose answer to one item changes when the other test items change; equal pictures on both sides.
Labels shuffled, every system must fall to chance.</p>
"""

NOT_MEASURED: Final = """\
<ul><li>Children and older adults: not measured, no claim is possible.</li>
<li>Spontaneous speech and felt emotion: not measured.</li>
<li>Boredom in faces: no face set has the label. Surprise in speech: EMO-DB does not have it.</li>
<li>Fairness by age, skin colour or accent: not measured. Five women and five men cannot show fairness by sex.</li></ul>
"""

REBUILD: Final = """\
<p><code>make report</code> rebuilds this folder from the released predictions in <code>predictions/</code>; it needs
neither data nor TensorFlow. <code>make evaluate DATA=folder</code> trains and tests every system anew (it says how long
that takes, and goes on where it stopped), packs the predictions and then does the same. Each split's manifest, with the
SHA-256 of every clip, is in <code>splits/</code>; its digest stands beside every run in <code>results.json</code>. The
form of the predictions is told in <code>tools/evaluate/predictions.py</code> and <code>released.py</code>.</p>
"""


def whole(headline: str, sections: str) -> str:
    """The page around its parts."""
    return _WHOLE.format(headline=headline, sections=sections)


def section(title: str, body: str) -> str:
    """A heading and what stands under it, which is HTML already."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of texts; each row comes with its CSS class, or ""."""
    if not rows:
        return "<p class=absent>Not measured yet.</p>"
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = [
        f'<tr class="{kind}">' + "".join(f"<td>{escape(one)}</td>" for one in cells) + "</tr>" for kind, cells in rows
    ]
    return f"<div class=scroll><table><tr>{top}</tr>\n" + "\n".join(lines) + "\n</table></div>\n"


def figure(svg: str, caption: str) -> str:
    """An SVG element with its caption."""
    words = escape(caption, quote=True)
    return f'<figure><div role="img" aria-label="{words}">{svg}</div><figcaption>{words}</figcaption></figure>\n'


def link_list(paths: Sequence[str]) -> str:
    """Links to files beside the page."""
    return "<ul>" + "".join(f'<li><a href="{escape(path)}">{escape(path)}</a></li>' for path in paths) + "</ul>\n"
