"""The tidy frame of a result: its columns, and how its rows are made and named."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe.stats import summarise

COLUMNS = (
    "model",
    "layer",
    "site",
    "metric",
    "basis",
    "convention",
    "mean",
    "std",
    "sem",
    "ci_low",
    "ci_high",
    "count",
)
_KEYS = ["metric", "site", "layer"]


def sample_key(metric: str, site: str, layer: int) -> str:
    """The name of a measure's column in `Result.samples`.

    >>> sample_key("l0", "z_out", 3)
    'l0@z_out:3'
    """
    return f"{metric}@{site}:{layer}"


def tabulate(
    *,
    model: str,
    basis: str,
    convention: str,
    samples: pd.DataFrame,
    measured: Sequence[tuple[str, str, int, int]],
    numbers: Mapping[tuple[str, int], tuple[float, int]],
    streamed: Mapping[tuple[str, str, int], float],
    count: int,
    seed: int,
) -> pd.DataFrame:
    """The tidy frame of per-sample columns and of numbers read from weights.

    Args:
        measured: (metric, site, layer, ddof) of each column of `samples`, in its order.
        numbers: (metric, layer) -> (value, how many pairs it is taken over); they carry no spread.
        streamed: (metric, site, layer) -> value, of all `count` samples together; no spread either.
    """
    rows: list[dict[str, Any]] = []
    if measured:
        ddof = np.array([m[3] for m in measured], dtype=np.int64)
        summary = summarise(samples.to_numpy(), ddof=ddof, seed=seed)
    for column, (metric, site, layer, _) in enumerate(measured):
        spread = {
            name: float(getattr(summary, name)[column])
            for name in ("mean", "std", "sem", "ci_low", "ci_high")
        }
        rows.append(
            {"layer": layer, "site": site, "metric": metric, **spread, "count": summary.count}
        )
    empty = dict.fromkeys(("std", "sem", "ci_low", "ci_high"), float("nan"))
    for (metric, layer), (value, pairs) in numbers.items():
        place = {"layer": layer, "site": "weights", "metric": metric}
        rows.append(place | {"mean": value, **empty, "count": pairs})
    for (metric, site, layer), value in streamed.items():
        place = {"layer": layer, "site": site, "metric": metric}
        rows.append(place | {"mean": value, **empty, "count": count})
    frame = pd.DataFrame(rows)
    frame["model"], frame["basis"], frame["convention"] = model, basis, convention
    return frame.sort_values(_KEYS, kind="stable").reset_index(drop=True)[list(COLUMNS)]
