"""Paired differences of a comparison as `compare` prints them, and what could not be paired."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.cli import _screen

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.results.compare import Comparison
    from whitebox_probe.results.result import Result

DEPTHS, ALL = 6, 8
"""Layers of each measure that are printed of more than `ALL`, unless every one is asked for."""
LEAST_P = 1e-4
NOTE = """\
difference: second minus first, sample by sample, with its 95% interval; p: Student's t, corrected \
over all layers and measures of the pair (Holm); d: mean over standard deviation of the \
differences. They are over samples: another training of either model may differ by more."""
WEIGHTS = "read from the weights, which have no samples"
WHOLE = "one number for all samples"
ELSEWHERE = "no layer and site where both have it"


def blocks(comparison: "Comparison", *, relative: bool, every: bool) -> list[str]:
    """A heading and a table for each pair of models.

    Args: relative: whether models differ in depth, and layers are told as shares of it. every: all
        layers, not `DEPTHS` of many.
    """
    from whitebox_probe.results.forms import FORMS

    found = []
    for (first, second), rows in comparison.differences.groupby(["first", "second"], sort=False):
        head = f"{second} minus {first}, {rows['count'].max()} samples in pairs"
        forms = [FORMS[form] for form in dict.fromkeys(rows["form"]) if form]
        head += f", nats {' and '.join(forms)}" if forms else ""
        table = _table(rows, relative=relative, every=every)
        found.append(f"{_screen.heading(head)}\n{table}")
    return found


def _table(rows: "pd.DataFrame", *, relative: bool, every: bool) -> str:
    from whitebox_probe._core.digits import number
    from whitebox_probe.results.summary import measure
    from whitebox_probe.results.table import SETTINGS, varying

    rows = rows.assign(basis=rows["first_basis"])
    keys = ["metric", "site", *SETTINGS]
    cells = []
    for metric, mine in rows.groupby("metric", sort=False):
        several = ["site"] * (mine["site"].nunique() > 1) + varying(mine)
        for place, curve in mine.groupby(keys, sort=False, dropna=False):
            told = dict(zip(keys, place, strict=True))
            name = measure(str(metric), {key: told[key] for key in several})
            curve = curve.sort_values("layer")
            for row in curve.iloc[_spread(len(curve), every=every)].to_dict("records"):
                depth = f"{row['relative_depth']:.2f}" if relative else f"{row['layer']}"
                value = number(row["difference"], sign="+", low=row["ci_low"], high=row["ci_high"])
                size = row["effect_size"]
                size = f"{size:+.2f}" if size == size else "-"
                cells.append([name, depth, value, p_value(row["p_holm"]), size])
    header = ["measure", "depth" if relative else "layer", "difference [95%]", "p", "d"]
    return _screen.table(cells, header, by="measure", spare=("d",))


def p_value(p: float) -> str:
    """As a table writes it.

    >>> p_value(0.0312), p_value(1e-30), p_value(float("nan"))
    ('0.031', '<0.0001', '-')
    """
    return "-" if p != p else f"{p:.2g}" if p >= LEAST_P else f"<{LEAST_P:.4f}"


def _spread(count: int, *, every: bool) -> list[int]:
    """Which of so many layers are printed: the first, the last, and some in equal steps between.

    >>> _spread(12, every=False)
    [0, 2, 4, 7, 9, 11]
    """
    if every or count <= ALL:
        return list(range(count))
    return [round(at * (count - 1) / (DEPTHS - 1)) for at in range(DEPTHS)]


def cut(comparison: "Comparison") -> bool:
    """Whether some measure has more layers than are printed."""
    return bool(comparison.differences["layer"].nunique() > ALL)


def unpaired(results: "Sequence[Result]", comparison: "Comparison") -> list[dict[str, Any]]:
    """Measures without paired differences: which models, which measures, and why."""
    found = []
    table = comparison.differences
    for at, one in enumerate(results):
        for two in results[at + 1 :]:
            mine = table[(table["first"] == one.model) & (table["second"] == two.model)]
            why: dict[str, list[str]] = {}
            for metric in dict.fromkeys([*one.frame["metric"], *two.frame["metric"]]):
                if metric not in set(mine["metric"]):
                    why.setdefault(_why(metric, one, two), []).append(metric)
            found += [
                {"first": one.model, "second": two.model, "metrics": metrics, "why": reason}
                for reason, metrics in why.items()
            ]
    return found


def _why(metric: str, one: "Result", two: "Result") -> str:
    """Why a measure of either has no pairs."""
    rows = [result.frame[result.frame["metric"] == metric] for result in (one, two)]
    for result, other in ((one, rows[1]), (two, rows[0])):
        if not len(other):
            return f"only {result.model} has it"
    if all((part["site"] == "weights").all() for part in rows):
        return WEIGHTS
    keys = [set(result.keys()[part.index]) for result, part in zip((one, two), rows, strict=True)]
    sampled = [bool(k & set(r.samples.columns)) for k, r in zip(keys, (one, two), strict=True)]
    return ELSEWHERE if all(sampled) else WHOLE
