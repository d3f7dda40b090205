"""Made-up results, of any settings, without a model."""

import itertools

import numpy as np
import pandas as pd
import pytest

from whitebox_probe.results.result import Result, named_matrices
from whitebox_probe.results.run import QR, Run
from whitebox_probe.results.table import SETTINGS, keys_of, tabulate

SITES = {"compression": "z_half", "coding_rate": "z_out", "l0": "z_out"}


def made_up(model="crate", *, family="crate", layers=3, count=6, shift=0.0, site=None, **changes):
    """A result of three measures; settings may be lists, all other changes are fields of `Run`."""
    told = {"basis": ["native"], "convention": ["paper"], "prenorm": [True], "class_token": [True]}
    told |= {"eps": [0.1], "lam": [0.1], "null": [""]}
    for name in SETTINGS:
        if name in changes:
            value = changes.pop(name)
            told[name] = value if isinstance(value, list) else [value]
    rows, columns = [], []
    random = np.random.default_rng(3)
    for metric, where in SITES.items():
        for values in itertools.product(*told.values()):
            place = dict(zip(told, values, strict=True)) | {"lam": None}
            if metric != "compression":
                place["basis"] = ""
            if metric == "l0":
                place |= {"eps": None, "prenorm": None}
            for layer in range(1, layers + 1):
                row = {"metric": metric, "site": (site or {}).get(metric, where), "layer": layer}
                row |= place
                if row in rows:
                    continue
                rows.append(row)
                columns.append(random.normal(10 * layer + shift, 1, size=count))
    rows = [row | {"key": i, "ddof": 1} for i, row in enumerate(rows)]
    index = pd.RangeIndex(count, name="sample")
    samples = pd.DataFrame(dict(enumerate(columns)), index=index)
    frame = tabulate(model=model, rows=rows, samples=samples, seed=0)
    names = tabulate(model=model, rows=rows, samples=samples * 0 + samples.columns, seed=0)
    keys = dict(zip(names["mean"].round().astype(int), keys_of(frame), strict=True))
    matrices, places = named_matrices(
        [
            ("coherence", {"basis": b}, np.full((layers, 2, 2), i))
            for i, b in enumerate(told["basis"])
        ]
    )
    settings = {
        "conventions": told["convention"],
        "bases": list(dict.fromkeys(b.removesuffix(QR) for b in told["basis"])),
        "orthonormal": list(dict.fromkeys(b.endswith(QR) for b in told["basis"])),
        **{name: told[name] for name in ("prenorm", "class_token", "eps", "lam", "null")},
        "metrics": list(SITES),
        "sites": {},
        "seed": 0,
        "dtype": "float32",
        "fast": True,
        "nonfinite": "raise",
        "fit": None,
    }
    settings |= changes.pop("settings", {})
    nats = {"unit": "nats", "group": "rate", "better": None}
    fields = {
        "model": model,
        "family": family,
        "layers": layers,
        "dim": 16,
        "heads": 2,
        "dim_head": 6,
        "tokens": 10,
        "prefix": 1,
        "count": count,
        "data": {"name": "images", "fingerprint": "abc", "limit": None},
        "settings": settings,
        "measures": {
            "compression": nats | {"label": "$R^c$", "bases": True, "metric": "compression"},
            "coding_rate": nats | {"label": "$R$", "bases": False, "metric": "coding_rate"},
            "l0": {"label": "l0", "unit": "share", "group": "sparsity", "bases": False},
        },
        "matrices": places,
        "execution": {"batch_size": 32, "device": "cpu", "processes": 1},
    }
    run = Run(**(fields | changes))
    return Result(frame, samples.rename(columns=keys), matrices, run)


@pytest.fixture
def made():
    return made_up
