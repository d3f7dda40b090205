"""From a sweep's file to its cells: every combination, less what is left out."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import SweepError, nearest
from whitebox_probe.probing.settings import Settings, several
from whitebox_probe.sweeping import contents, sources
from whitebox_probe.sweeping.cell import Cell, written

MOST_CELLS = 10_000
NONE = "none"
_FIELDS = {each.name: each for each in fields(Settings)}


def cells_of(document: Mapping[str, Any], base: Path) -> list[Cell]:
    """The cells of a file that was checked, in its order.

    Args: base: the folder that its relative paths start at.
    Raises: SweepError; whatever the settings, the models or the data of a cell are refused with.
    """
    models = {each["name"]: each for each in sources.models(document["models"], base)}
    stated = document.get("data", "fashion-mnist")
    data = {each["name"]: each for each in sources.data(stated, base)}
    whole = _axes(document, models, data)
    parts = [
        whole | _part(part, models, data, f"cells[{number}]")
        for number, part in enumerate(document.get("cells", [{}]), start=1)
    ]
    count = sum(math.prod(len(values) for values in part.values()) for part in parts)
    if count > MOST_CELLS:
        raise SweepError(
            f"the file stands for {count} cells", f"a sweep has {MOST_CELLS} at most", "Split it"
        )
    points = list(_once(point for part in parts for point in _product(part)))
    points = _without(points, document.get("exclude", []), models, data)
    varying = [axis for axis in whole if len({_key(point[axis]) for point in points}) > 1]
    metrics = _listed(document["metrics"]) if "metrics" in document else None
    sites = document.get("sites", {})
    found = [_cell(point, models, data, metrics, sites, varying) for point in points]
    found = _with_contents(found)
    _expect_different(found)
    return found


def _axes(
    document: Mapping[str, Any], models: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Every axis with its values: models and data by name, and all settings."""
    stated = dict(document.get("settings", {}))
    if "limit" in document:
        if "limit" in stated:
            raise SweepError("limit is given twice", "above and in settings", "Leave one out")
        stated["limit"] = document["limit"]
    found: dict[str, list[Any]] = {"model": list(models), "data": list(data)}
    for name, each in _FIELDS.items():
        found[name] = _values(name, stated[name]) if name in stated else [each.default]
    return found


def _values(name: str, stated: Any) -> list[Any]:
    """The values of a setting, one a cell; a list in the list is several, measured in one pass."""
    return [_value(name, one) for one in (stated if isinstance(stated, list) else [stated])]


def _value(name: str, stated: Any) -> Any:
    if not _FIELDS[name].metadata["several"]:
        if isinstance(stated, list):
            raise SweepError(
                f"'{name}' has several values in one cell",
                f"{written(stated)} cannot be measured in one pass",
                "Write them in one list, a cell each",
            )
        return _meant(name, stated)
    of_one = [_meant(name, one) for one in (stated if isinstance(stated, list) else [stated])]
    return several(of_one, name)


def _meant(name: str, value: Any) -> Any:
    """YAML reads 1e-3 as a text, and `none` as one."""
    if value == NONE:
        return None
    numeric = isinstance(_first(_FIELDS[name].default), float)
    if numeric and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _part(
    part: Mapping[str, Any], models: Mapping[str, Any], data: Mapping[str, Any], where: str
) -> dict[str, list[Any]]:
    """What a part of a file names, in place of what stands above it."""
    found = {}
    for axis, stated in part.items():
        if axis in _FIELDS:
            found[axis] = _values(axis, stated)
            continue
        known = models if axis == "model" else data
        found[axis] = _listed(stated)
        for name in found[axis]:
            if name not in known:
                what = "models" if axis == "model" else "data"
                raise SweepError(
                    f"there is no {axis} '{name}' of {where}",
                    f"it is none of the names of {what}",
                    nearest(name, known),
                )
    return found


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _once(points: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen = set()
    for point in points:
        key = tuple(_key(value) for value in point.values())
        if key not in seen:
            seen.add(key)
            yield point


def _key(value: Any) -> str:
    return repr(value)  # True is 1, and 1 is 1.0, in a set


def _without(
    points: Sequence[dict[str, Any]],
    exclude: Sequence[Mapping[str, Any]],
    models: Mapping[str, Any],
    data: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The points that no entry of `exclude` fits; one that fits none is a slip of the hand.

    Raises: SweepError.
    """
    left = list(points)
    for number, entry in enumerate(exclude, start=1):
        part = _part(entry, models, data, f"exclude[{number}]")
        fits = [all(p[axis] in values for axis, values in part.items()) for p in points]
        if not any(fits):
            raise SweepError(
                f"exclude[{number}] leaves out nothing", "no cell fits it", "Mend or remove it"
            )
        out = [point for point, fit in zip(points, fits, strict=True) if fit]
        left = [point for point in left if point not in out]
    if not left:
        raise SweepError("the sweep has no cell", "all are left out", "Leave fewer out")
    return left


def _cell(
    point: Mapping[str, Any],
    models: Mapping[str, Any],
    data: Mapping[str, Any],
    metrics: Sequence[str] | None,
    sites: Mapping[str, Any],
    varying: Sequence[str],
) -> Cell:
    """One cell, its settings and measures checked."""
    from whitebox_probe.metrics.catalogue import measure_named

    for name in metrics or ():
        measure_named(name)
    settings = Settings.of(**{name: point[name] for name in _FIELDS}).told()
    factors = {axis: settings.get(axis, point[axis]) for axis in varying}
    one = {name: v[0] if isinstance(v, list) and len(v) == 1 else v for name, v in factors.items()}
    return Cell(
        model=models[point["model"]] | {"seed": settings["seed"]},
        data=data[point["data"]],
        metrics=None if metrics is None else tuple(metrics),
        sites={name: _listed(places) for name, places in sites.items()},
        settings=settings,
        factors=one,
    )


def _with_contents(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, with what their files hold now: each model and data set is looked at once."""
    models = {str(cell.model["name"]): cell.model for cell in cells}
    data = {str(cell.data["name"]): cell.data for cell in cells}
    of_models = {name: contents.of_model(each) for name, each in models.items()}
    of_data = {name: contents.of_data(each) for name, each in data.items()}
    return [
        replace(
            cell,
            contents={
                "model": of_models[str(cell.model["name"])],
                "data": of_data[str(cell.data["name"])],
            },
        )
        for cell in cells
    ]


def _expect_different(cells: Sequence[Cell]) -> None:
    """Check that no two cells are the same under two names.

    Raises: SweepError.
    """
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.identity, cell)
        if other is not cell:
            raise SweepError(
                f"'{other.name}' and '{cell.name}' are the same",
                "their numbers depend on the same things",
                "Leave one of them out",
            )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
