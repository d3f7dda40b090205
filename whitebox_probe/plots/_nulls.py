"""The nulls of a model, found by its name and drawn under its curve."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import style
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import SETTINGS, no_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Nulls = Mapping[str, Result] | Iterable[Result | Mapping[str, Result]]
# Of results that do not say their own line.
_LINES: tuple[Any, ...] = ("-.", ":", (0, (6, 2)), (0, (1, 3)))
BAND = "band of a null: ±1 std over samples"


def by_model(results: Sequence[Result], nulls: Nulls) -> dict[str, dict[str, Result]]:
    """The nulls of each result, by kind.

    Raises: ResultError for a null of no result that is drawn.
    """
    found: dict[str, dict[str, Result]] = {result.model: {} for result in results}
    for null in _each(nulls):
        of, _, kind = null.model.partition(NULL_SEPARATOR)
        if of not in found or not kind:
            raise ResultError(
                f"the null {null.model} belongs to none of the curves",
                "it is drawn with the model that it was taken of",
                "Make it with wp.nulls, and draw it with that model",
            )
        found[of][kind] = null
    return found


def _each(nulls: Nulls) -> Iterable[Result]:
    for null in nulls.values() if isinstance(nulls, Mapping) else nulls:
        if isinstance(null, Mapping):
            yield from _each(null)
        elif isinstance(null, Result):
            yield null
        else:
            raise ResultError(
                f"{null!r} in nulls= is no result",
                "a null is a result of wp.nulls",
                "Pass nulls=wp.nulls(...), or a list of such",
            )


def gaussian(model: str, nulls: Mapping[str, Result]) -> Result:
    """The null that `null_share` divides by, wherever it stands.

    Raises: ResultError when it is missing.
    """
    if "gaussian" not in nulls:
        raise ResultError(
            f"the Gaussian null of {model} is missing",
            "normalise='null_share' divides by it",
            "Pass nulls=wp.nulls(model, data, kinds=('gaussian',))",
        )
    return nulls["gaussian"]


def rows(null: Result, curve: pd.DataFrame) -> pd.DataFrame:
    """A null's curve, taken with the very settings of the model's.

    Raises: ResultError when the null was not measured so.
    """
    row = curve.iloc[0]
    settings = [name for name in SETTINGS if name != "null" and name in curve]
    where = {name: row[name] for name in settings if not no_value(row[name])}
    return null.curve(str(row["metric"]), str(row["site"]), **where)


def draw(
    ax: "Axes", null: Result, curve: pd.DataFrame, look: style.Look, *, among: int, at: int
) -> "Line2D":
    """A thin line in grey (in the model's colour among several), and its ±1 std."""
    kind = null.model.partition(NULL_SEPARATOR)[2].replace("_", " ")
    colour = "0.45" if among == 1 else look.colour
    (line,) = ax.plot(
        curve["depth"],
        curve["mean"],
        color=colour,
        linewidth=0.8,
        marker="",
        linestyle=_dashes(null.run.get("null_line") or _LINES[at % len(_LINES)]),
        alpha=0.8,
        zorder=1.8,
        label=f"null: {kind}" if among == 1 else f"null of {look.label}: {kind}",
    )
    if not curve["std"].isna().all():
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        ax.fill_between(
            curve["depth"], low, high, color=colour, alpha=0.12, linewidth=0, zorder=1.7
        )
    return line


def _dashes(line: Any) -> Any:
    """A line style as matplotlib takes it: a saved one has lists for tuples."""
    return line if isinstance(line, str) else (line[0], tuple(line[1]))
