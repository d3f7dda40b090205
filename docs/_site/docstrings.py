"""Docstrings of this package, which are written to be read in an editor, as Sphinx reads them.

Their sections stand at the start of a line (`Args:`, `Raises:`, `Shapes:`), their names in single
backticks, and their formulas in plain text, whose bars and stars mean nothing to Sphinx.
"""

import re
import textwrap
from typing import Any

from sphinx.application import Sphinx

LISTS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Class attributes": "Class attributes",
}
WORDS = ("Shapes", "Raises", "Returns", "Yields", "References", "Rows")
SECTION = re.compile(rf"^({'|'.join([*LISTS, *WORDS, 'Example', 'Examples'])}):(?:\s+(.*))?$")
ENTRY = re.compile(r"^((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*): (.*)$", re.S)
CODE = re.compile(r"(``?)(.+?)\1", re.S)
REPR = re.compile(r" ?= ?<[^<>]+>")
SPECIAL = re.compile(r"([\\*|`_])")


def plain(text: str) -> str:
    """Text whose stars, bars and underscores are themselves; what stands in backticks is code."""
    parts, last = [], 0
    for found in CODE.finditer(text):
        parts.append(SPECIAL.sub(r"\\\1", text[last : found.start()]))
        code = " ".join(found[2].split())
        before = text[found.start() - 1 : found.start()]
        after = text[found.end() : found.end() + 1]
        left = "\\ " if before and not before.isspace() and before not in "([{'\"" else ""
        right = "\\ " if after and after.isalnum() else ""
        parts.append(f"{left}``{code}``{right}")
        last = found.end()
    parts.append(SPECIAL.sub(r"\\\1", text[last:]))
    return "".join(parts)


def prose(lines: list[str]) -> list[str]:
    """Paragraphs, formulas (indented), doctests and lists."""
    made: list[str] = []
    for each in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        paragraph = textwrap.dedent(each) if each.strip() else ""
        if not paragraph:
            continue
        if paragraph.lstrip().startswith(">>>"):
            made += paragraph.splitlines()
        elif each.startswith("    "):
            made += ["::", "", *textwrap.indent(paragraph, "    ").splitlines()]
        elif re.match(r"- ", paragraph):
            for item in re.split(r"\n(?=- )", paragraph):
                made.append("- " + plain(" ".join(item[2:].split())))
        else:
            made.append(plain(" ".join(paragraph.split())))
        made.append("")
    return made


def entries(lines: list[str]) -> list[str]:
    """`name: what it is`, one a line or one behind the other, as a list of definitions."""
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    made: list[str] = []
    for item in re.split(r"\n(?=\S)", text):
        flat = " ".join(item.split())
        found = ENTRY.match(flat)
        if found is None:
            made += [plain(flat), ""]
        else:
            names = ", ".join(f"``{name}``" for name in found[1].split(", "))
            made += [names, "    " + plain(found[2]), ""]
    return made


def section(name: str, lines: list[str]) -> list[str]:
    """One section under its name."""
    if name in LISTS:
        first, rest = lines[0].strip(), lines[1:]
        inline = bool(first)
        body = [" ".join([first, *(line.strip() for line in rest)])] if inline else rest
        return [f"**{LISTS[name]}**", "", *entries(body)]
    if name.startswith("Example"):
        head = [lines[0]] if lines[0] else []
        rest = textwrap.dedent("\n".join(lines[1:])).split("\n")
        return ["**Example**", "", *prose([*head, *rest])]
    flat = plain(" ".join(" ".join(lines).split()))
    return [f"**{name}:** {flat}", ""]


def converted(lines: list[str]) -> list[str]:
    """A whole docstring."""
    made: list[str] = []
    held: list[str] = []
    name = ""

    def close() -> None:
        made.extend(section(name, held) if name else prose(held))

    for line in lines:
        found = SECTION.match(line)
        ended = name and line and not line[0].isspace() and not found and _gap(held, name)
        if found:
            close()
            name, held = found[1], [found[2] or ""]
        elif ended:
            close()
            name, held = "", [line]
        else:
            held.append(line)
    close()
    return made


def _gap(held: list[str], name: str) -> bool:
    """Whether a section is over: there was an empty line."""
    return bool(held) and held[-1] == ""


def process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Convert what autodoc found, in place."""
    module = getattr(thing, "__module__", None) or name
    if str(module).startswith("whitebox_probe") or name.startswith("whitebox_probe"):
        lines[:] = converted(lines)


def signature(app: Sphinx, *found: Any) -> tuple[str | None, str | None]:
    """Defaults that Python could not read, such as `<factory>` of a dataclass, are dots."""
    taken, given = found[-2:]
    return (REPR.sub("=...", taken) if taken else taken), given


def setup(app: Sphinx) -> dict[str, Any]:
    """Whenever autodoc reads a docstring or a signature."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
