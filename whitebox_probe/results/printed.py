"""Tables in print: LaTeX and Markdown."""

import re
from collections.abc import Sequence

from whitebox_probe._core.digits import Number
from whitebox_probe._core.lines import shown

Cell = str | Number
_MOST = 400  # characters of a cell
_EDGE = re.compile(r"(?<!\w)_|_(?!\w)")


def latex(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str | None = None
) -> str:
    r"""Rows as a booktabs tabular, in a floating table if it has a caption.

    Numbers stand in `\num{}`, so that siunitx sets them as the document's others.
    """
    of = [
        "r" if any(isinstance(row[i], Number) for row in rows) else "l" for i in range(len(header))
    ]
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in (header, *rows)]
    body = [rf"\begin{{tabular}}{{{''.join(of)}}}", r"\toprule", lines[0], r"\midrule"]
    body += [*lines[1:], r"\bottomrule", r"\end{tabular}"]
    needs = r"% needs \usepackage{booktabs,siunitx}"
    if caption is not None:
        told = rf"\caption{{{_tex(caption)}}}"
        body = [r"\begin{table}", r"\centering", told, *body, r"\end{table}"]
    return "\n".join([needs, *body]) + "\n"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as a table of GitHub's Markdown, numbers to the right."""
    right = [any(isinstance(row[i], Number) for row in rows) for i in range(len(header))]
    rule = ["---:" if each else "---" for each in right]
    lines = [rule if row is None else list(map(marked, row)) for row in (header, None, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}


def _plain(cell: str) -> str:
    return shown(" ".join(cell.split()), _MOST)


def _tex(cell: Cell) -> str:
    if isinstance(cell, Number):
        return cell.latex()
    return "".join(_SPECIAL.get(character, character) for character in _plain(cell))


def marked(cell: Cell) -> str:
    """Text that Markdown shows as it is; an underscore inside a word is safe."""
    if isinstance(cell, Number):
        return str(cell)
    plain = "".join(f"\\{c}" if c in "\\`*|<>$~" else c for c in _plain(cell))
    return _EDGE.sub(r"\\_", plain)
