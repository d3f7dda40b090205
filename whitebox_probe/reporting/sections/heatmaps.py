"""Matrices of each layer, such as the coherence of heads' subspaces, with a slider of layers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.digits import number
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import Block, Chart, Control, Part, Prose, Section, Sheet
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.table import no_value, written

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

MOST = 32
"""Rows of a matrix that is shown; a larger one is a figure's."""
_WORDS = 6  # cells a side that have room for their value
_ABOUT = {"coherence": "largest cosine, ‖QᵢᵀQⱼ‖₂"}


def _make(material: "Material") -> Part | None:
    found: dict[str, dict[str, np.ndarray]] = {}
    large: dict[str, None] = {}
    for result in material.results:
        model = material.names[result.model]
        for key, array in uncopied(result, "matrices").items():
            place = dict(result.run.matrices.get(key, {"name": key}))
            if array.ndim != 3 or array.shape[1] != array.shape[2]:
                continue
            if array.shape[1] > MOST:
                told = f"{place.get('name', key)} of {model} ({array.shape[1]} × {array.shape[2]})"
                large[told] = None
                continue
            found.setdefault(_named(key, place), {})[model] = array
    if not found:
        return None
    blocks: list[Block] = [_chart(found)]
    if large:
        told = ", ".join(large)
        blocks.append(
            Prose(
                f"Too large to be read here, and not shown: {told}. "
                "Draw them with: whitebox-probe plot RESULT --figure subspace_overlap.",
                "gap",
            )
        )
    return Part("Heads' subspaces", blocks)


def _named(key: str, place: Mapping[str, Any]) -> str:
    """A matrix by its name and settings, but for the basis, which models differ in."""
    more = {k: v for k, v in place.items() if k in ("convention", "eps", "lam", "null")}
    told = ", ".join(f"{k}={written(v)}" for k, v in more.items() if not no_value(v))
    qr = "orthonormal" if str(place.get("basis", "")).endswith("+qr") else ""
    told = ", ".join(filter(None, (told, qr)))
    name = str(place.get("name", key))
    return f"{name} ({told})" if told else name


def _chart(found: Mapping[str, Mapping[str, np.ndarray]]) -> Chart:
    sheets: dict[str, Sheet] = {}
    layers = range(1, max(len(a) for of in found.values() for a in of.values()) + 1)
    models = list(dict.fromkeys(m for of in found.values() for m in of))
    for name, of in found.items():
        low, high = _range(of)
        params = {"lo": low, "hi": high, "xtitle": "head", "ytitle": "head"}
        params["ctitle"] = _ABOUT.get(name.partition(" (")[0], name)
        for layer in layers:
            rows = [
                row for model, each in of.items() for row in _rows(model, each, layer, low, high)
            ]
            missing = [m for m in models if m not in {row["model"] for row in rows}]
            note = f"None at layer {layer} of: {', '.join(missing)}." if missing else ""
            sheets[f"{name}|{layer}"] = Sheet(rows, params, note=note)
    side = max(a.shape[1] for of in found.values() for a in of.values())
    names = [(n, n) for n in found]
    return Chart(
        name="subspaces",
        label="A matrix over heads at one layer, one panel a model",
        spec=charts.heatmap(
            facet="model", order=models, columns=min(3, len(models)), words=side <= _WORDS
        ),
        sheets=sheets,
        by=["matrix", "layer"],
        controls=[
            Control("select", "matrix", "Matrix", names, names[0][0]),
            Control("slider", "layer", "Layer", [(n, f"{n} of {layers[-1]}") for n in layers], 1),
        ],
        table=[("model", "model"), ("y", "row"), ("x", "column"), ("told", "value")],
    )


def _range(of: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """From 0 to 1 where all values lie there, else from the least to the most."""
    least = min(float(np.nanmin(each)) for each in of.values())
    most = max(float(np.nanmax(each)) for each in of.values())
    # A norm of 1 may be a rounding above it.
    return (0.0, 1.0) if least >= -1e-6 and most <= 1 + 1e-6 else (least, most)


def _rows(
    model: str, array: np.ndarray, layer: int, low: float, high: float
) -> Iterator[dict[str, Any]]:
    if layer > len(array):
        return
    for (i, j), value in np.ndenumerate(array[layer - 1]):
        where = f"{model}, layer {layer}, heads {i + 1} and {j + 1}"
        made = {"model": model, "x": j + 1, "y": i + 1, "told": _short(float(value))}
        yield made | {"shade": charts.shade(float(value), low, high), "where": where}


def _short(value: float) -> str:
    return number(value) if abs(value) >= 10 else f"{value:.3f}"


SECTION = Section(order=55, make=_make)
