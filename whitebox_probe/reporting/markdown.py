"""A report in Markdown, for a pull request: models, changes, verdicts, and the command."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from whitebox_probe._core.digits import number
from whitebox_probe.auditing.verdicts import Audit, worded
from whitebox_probe.reporting import commands, words
from whitebox_probe.reporting.sections.changes import changes
from whitebox_probe.reporting.sections.differences import paired
from whitebox_probe.results import printed

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def written(material: "Material", title: str, subtitle: str) -> str:
    """The report."""
    parts = [f"## {_text(title)}", _text(subtitle)]
    if material.shown:
        caption, head, rows = changes(material)
        parts += ["### Changes", f"{_text(caption)}.", _table(head, rows, (2, 3, 4))]
    caption, head, rows, notes = paired(material)
    if rows:
        parts += ["### Paired differences", f"{_text(caption)}.", _table(head, rows, (2, 3))]
    parts += _listed(notes)
    for audit in material.audits:
        parts += ["### Verdicts", *_verdicts(material, audit)]
    left = {"similarities": material.similarities, "views of samples": material.views}
    parts += _listed([f"{len(v)} {k}: on the HTML page only" for k, v in left.items() if v])
    command, gaps = commands.whole(material)
    parts += ["### How to make it again", *([_fenced(command)] if command else [])]
    parts += _listed([f"Not in the command: {gap}" for gap in dict.fromkeys(gaps)])
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _verdicts(material: "Material", audit: Audit) -> Iterator[str]:
    order = list(dict.fromkeys(audit.frame["claim"]))
    rows = []
    for row in sorted(audit.frame.to_dict("records"), key=lambda r: order.index(r["claim"])):
        none = row["value"] != row["value"]
        effect = "-" if none else number(row["value"], low=row["ci_low"], high=row["ci_high"])
        unit = "" if none else str(row["unit"])
        rows.append([str(row["claim"]), material.names[row["model"]], effect, unit, worded(row)])
    yield _table(["claim", "model", "effect", "unit", "verdict"], rows, (2,))
    lines = "\n".join(_listed(audit.sentences()))
    yield f"<details><summary>What each verdict rests on</summary>\n\n{lines}\n\n</details>"


def _listed(lines: Sequence[str]) -> list[str]:
    """Lines as one list; nothing for none."""
    return ["\n".join(f"- {_text(line)}" for line in lines)] if lines else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """Rows as a table of GitHub's Markdown."""
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    told = [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(head), rule, *told))


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return printed.marked(words.visible(text))


def _fenced(text: str) -> str:
    text, fence = words.visible(text), "```"
    while fence in text:
        fence += "`"
    return f"{fence}sh\n{text}\n{fence}"
