"""What a section of a report is, and the blocks that it is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from whitebox_probe._core.discover import modules
from whitebox_probe._core.html import Look

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


@dataclass(frozen=True)
class Prose:
    """A paragraph. `kind`: `note` stands out, `gap` says what is not there and why."""

    text: str
    kind: Literal["text", "note", "gap"] = "text"


@dataclass(frozen=True)
class Cell:
    """Of a table: its text, a verdict's look, and a second line that stands back."""

    text: str
    look: Look | None = None
    more: str = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first column names them.

    Args:
        numbers: columns that are set to the right.
        grouped: rows of one name stand under it.
        even: all columns but the first are of one width.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    numbers: Sequence[int] = ()
    grouped: bool = False
    even: bool = False

    @property
    def spans(self) -> list[int]:
        """Of each row, how many its first cell names: 0 where one above does."""
        first = [str(row[0].text if isinstance(row[0], Cell) else row[0]) for row in self.rows]
        found = [1] * len(first)
        for i in range(len(first) - 2, -1, -1) if self.grouped else ():
            if first[i] == first[i + 1]:
                found[i], found[i + 1] = found[i + 1] + 1, 0
        return found


@dataclass(frozen=True)
class Code:
    """Lines as they are, with a button that copies them."""

    text: str
    label: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are opened by a click, and in print, unless that would take many pages."""

    title: str
    blocks: Sequence[Any]
    open: bool = False
    printed: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture as PNG, and what it shows in words."""

    png: bytes
    alt: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True)
class File:
    """A file that a button saves."""

    name: str
    label: str
    text: str


@dataclass(frozen=True)
class Files:
    """Files side by side."""

    files: Sequence[File]


@dataclass(frozen=True)
class Control:
    """What a reader can change of a chart: the value of a parameter of its specification.

    Args:
        kind: `select` and `slider` have one of `options`, `toggle` is on or off, `several` are
            those of `options` that are not ticked off.
        options: (value, label).
        start: the value at first: of a select or a slider, or whether a toggle is on.
    """

    kind: Literal["select", "slider", "toggle", "several"]
    param: str
    label: str
    options: Sequence[tuple[Any, str]] = ()
    start: Any = None


@dataclass(frozen=True)
class Sheet:
    """What a chart shows at one choice of its `by`.

    Attributes:
        rows: of the data set `rows`.
        params: other parameters, as titles of axes.
        allow: parameter -> the values that it may have here; any where it is not named.
        note: said beneath the chart.
    """

    rows: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    allow: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart of Vega-Lite, its controls, and its numbers as a table.

    Args:
        name: part of the names of its files.
        label: what it shows, in words.
        spec: with a data set `rows` and the parameter `dark`.
        sheets: values of `by`, joined by `|` -> what is shown.
        by: the controls that choose the sheet.
        table: (field of a row, head) of the columns of its table; `{form}` in a field is replaced
            by the parameter of that name.
        log: channel -> what its scale has while the parameter `log` is on; None for what it lacks.
    """

    name: str
    label: str
    spec: Mapping[str, Any]
    sheets: Mapping[str, Sheet]
    by: Sequence[str] = ()
    controls: Sequence[Control] = ()
    table: Sequence[tuple[str, str]] = ()
    log: Mapping[str, Any] = field(default_factory=dict)


Block = Prose | Table | Code | Fold | Picture | Files | Chart


@dataclass(frozen=True)
class Part:
    """A section as it is shown: a title and its blocks."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of the report; a file of `sections/` holds one as `SECTION`.

    Args: order: where it stands. make: what is shown of the material; None where it has no place.
    """

    order: int
    make: Callable[["Material"], Part | None]


def sections() -> dict[str, Section]:
    """Every section, in its order, by the name of its file."""
    import whitebox_probe.reporting.sections as folder

    found = {each.__name__.rpartition(".")[2]: each.SECTION for each in modules(folder)}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].order, pair[0])))
