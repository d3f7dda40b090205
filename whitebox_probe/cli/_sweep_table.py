"""The table of a sweep's cells: as wide as the terminal, and whole where it is piped."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from whitebox_probe._core.digits import number
from whitebox_probe.cli import _shared

if TYPE_CHECKING:
    from whitebox_probe.sweeping.sweep import Done

_ARROW = " → "


def show(cells: "Sequence[Done]") -> None:
    """Print one row a cell: what varies, how far it is, each measure in the first and last layer.

    On a terminal, measures for which there is no room are left out, the last ones first.
    """
    if not cells:
        print("no cell")
        return
    known, measures = _columns(cells)
    columns = {**known, **measures}
    rows = list(zip(*columns.values(), strict=True))
    print(_shared.table(rows, list(columns), spare=[*reversed(measures)]))


def _columns(cells: "Sequence[Done]") -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Texts of what varies and of the states, and of the measures, by column."""
    from whitebox_probe.sweeping.cell import written

    factors = [name for name in cells[0].cell.factors if name not in ("model", "data")]
    known = {"model": [str(each.cell.model["name"]) for each in cells]}
    if "data" in cells[0].cell.factors:
        known["data"] = [str(each.cell.data["name"]) for each in cells]
    for name in factors:
        known[name] = [written(each.cell.factors[name]) for each in cells]
    known["state"] = [each.state for each in cells]
    of_each = [_measures(each) for each in cells]
    names = dict.fromkeys(name for each in of_each for name in each)
    return known, {name: [each.get(name, "") for each in of_each] for name in names}


def _measures(each: "Done") -> dict[str, str]:
    """Each measure of a cell in its first and its last layer; of several settings the first."""
    if each.state != "done":
        return {}
    found = {}
    for name, rows in each.result().frame.groupby("metric", sort=False):
        layers = rows.drop_duplicates("layer").sort_values("layer")["mean"]
        found[str(name)] = f"{number(layers.iloc[0])}{_ARROW}{number(layers.iloc[-1])}"
    return found
