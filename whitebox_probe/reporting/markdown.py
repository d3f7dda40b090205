"""A report in Markdown, for a pull request: models, changes, verdicts, and the command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from whitebox_probe._core.digits import number
from whitebox_probe.auditing.verdicts import worded
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
    parts += ["\n".join(f"- {_text(note)}" for note in notes)] if notes else []
    for audit in material.audits:
        told = [
            [
                _code(str(row["claim"])),
                _text(material.names[row["model"]]),
                "-"
                if row["value"] != row["value"]
                else number(row["value"], low=row["ci_low"], high=row["ci_high"]),
                _text("" if row["value"] != row["value"] else str(row["unit"])),
                _text(worded(row)),
            ]
            for row in sorted(
                audit.frame.to_dict("records"), key=lambda r: _order(audit.frame["claim"], r)
            )
        ]
        parts += ["### Verdicts", _raw(["claim", "model", "effect", "unit", "verdict"], told, (2,))]
        lines = "\n".join(f"- {_text(line)}" for line in audit.sentences())
        parts.append(
            f"<details><summary>What each verdict rests on</summary>\n\n{lines}\n\n</details>"
        )
    parts += (
        [f"{len(material.similarities)} similarities are in the page only."]
        if material.similarities
        else []
    )
    parts += (
        [f"{len(material.views)} views of samples are in the page only."] if material.views else []
    )
    command, gaps = commands.whole(material)
    parts += ["### How to make it again", _fenced(words.visible(command))]
    parts += (
        ["\n".join(f"- Not in the command: {_text(gap)}." for gap in dict.fromkeys(gaps))]
        if gaps
        else []
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _order(column: Sequence[str], row: object) -> int:
    order = list(dict.fromkeys(column))
    return order.index(row["claim"])  # type: ignore[index]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    return _raw(head, [[_text(cell) for cell in row] for row in rows], right)


def _raw(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(head), rule, *rows))


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return printed.marked(words.visible(text))


def _code(text: str) -> str:
    return f"`{words.visible(text)}`"


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}sh\n{text}\n{fence}"
