"""Results of the first format: a flat run.json, and a table without its settings' columns."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from whitebox_probe.results.table import COLUMNS, SETTINGS, keys_of, sample_key, with_types

_RESIDUAL = ("z_in", "z_half", "z_out")
_EPS_GROUPS = ("rate",)
_EPS = ("descent_", "attention_rate_change", "class_rate")  # of other groups, by how names begin
_LISTS = ("prenorm", "class_token", "lam", "null")
_SIZES = ("layers", "dim", "heads", "dim_head", "tokens", "count")
_PARTS = ("checkpoint", "network", "bounds", "nonfinite", "versions")
_SAME = ("model", "family", "seconds", "created", *_SIZES, *_PARTS)


def run_of_first_format(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Run` from a flat run.json; what it did not record is left out."""
    arguments = dict(flat.get("arguments", {}))
    limit, batch = arguments.pop("limit", None), arguments.pop("batch_size", None)
    fit = arguments.pop("fit_limit", None)
    basis = str(flat.get("basis", ""))
    eps = flat.get("eps", [])
    sweep = eps if isinstance(eps, list) else [eps]
    names = {f"{name}[eps={e:g}]": name for name in _bases(flat) for e in sweep}
    settings = {
        "conventions": [flat.get("convention", "paper")],
        "bases": [basis.removesuffix("+qr")],
        "orthonormal": [basis.endswith("+qr")],
        **{name: [flat[name]] for name in _LISTS if name in flat},
        "eps": sweep,
        "seed": flat.get("seed", 0),
        "fit": None if fit is None else {"limit": fit},
        **arguments,
    }
    metrics = [names.get(name, name) for name in arguments.get("metrics", ())]
    settings["metrics"] = list(dict.fromkeys(metrics))
    return {name: flat[name] for name in _SAME if name in flat} | {
        "data": dict(flat.get("data", {})) | {"limit": limit},
        "settings": settings,
        "measures": {
            names.get(row, row): _without_eps(told, sweep)
            for row, told in flat.get("measures", {}).items()
        },
        "execution": {"batch_size": batch, "device": flat.get("device", "cpu")}
        | {"processes": flat.get("processes", 1)},
        **{size: 0 for size in _SIZES if size not in flat},
    }


def table_of_first_format(
    frame: pd.DataFrame, samples: pd.DataFrame, flat: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with a column for each setting, and the samples under the names of today."""
    eps = flat.get("eps", [])
    swept = {
        f"{name}[eps={e:g}]": (name, e)
        for name in _bases(flat)
        for e in (eps if isinstance(eps, list) else [])
    }
    before = [
        sample_key(metric, site, layer)
        for metric, site, layer in zip(frame["metric"], frame["site"], frame["layer"], strict=True)
    ]
    told = pd.DataFrame(
        [_settings(row, swept, flat) for row in frame.to_dict("records")], index=frame.index
    )
    frame = frame.drop(columns=["metric", "basis", "convention"]).join(told)
    frame = with_types(frame.assign(note=""))[list(COLUMNS)]
    names = dict(zip(before, keys_of(frame), strict=True))
    return frame, samples.rename(columns=names)


def _settings(
    row: Mapping[Any, Any], swept: Mapping[str, tuple[str, float]], flat: Mapping[str, Any]
) -> dict[str, Any]:
    """What one row of an old table was taken with, by the kind of its measure."""
    told = flat.get("measures", {}).get(row["metric"], {})
    every = flat.get("eps")
    # In a sweep, a measure of all samples together kept one eps' number and did not tell which.
    metric, eps = swept.get(
        row["metric"], (row["metric"], None if isinstance(every, list) else every)
    )
    rate, weights = told.get("group") in _EPS_GROUPS, row["site"] == "weights"
    found: dict[str, Any] = dict.fromkeys(SETTINGS) | {"metric": metric, "basis": "", "null": ""}
    found |= {"convention": "" if weights else row["convention"]}
    if told.get("bases", True):
        found["basis"] = row["basis"]
    if rate or metric.startswith(_EPS):
        found["eps"] = eps
    if rate and row["site"] in _RESIDUAL:
        found["prenorm"] = flat.get("prenorm")
    if metric == "sparse_rate_reduction":
        found["lam"] = flat.get("lam")
    if not weights:
        found |= {"class_token": flat.get("class_token"), "null": flat.get("null") or ""}
    return found


def _bases(flat: Mapping[str, Any]) -> list[str]:
    """Names of the measures, without what a sweep added to them."""
    return list(dict.fromkeys(told["metric"] for told in flat.get("measures", {}).values()))


def _without_eps(told: Mapping[str, Any], sweep: list[float]) -> dict[str, Any]:
    label = str(told.get("label", ""))
    for eps in sweep:
        label = label.removesuffix(rf", $\epsilon={eps:g}$")
    return dict(told) | {"label": label}
