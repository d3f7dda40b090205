"""Results made up for claims: values a sample and layer, and no model."""

import numpy as np
import pandas as pd

from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import keys_of, tabulate

BASE = Setting(eps=0.1, lam=0.1, basis="native")
WEIGHED = {"overlap_mean": 0.25, "overlap_random": 0.25}
SIZES = {"dim": 96, "heads": 4, "dim_head": 24, "tokens": 50}


def uses(of=None):
    """Every measure of every claim, or of those that are named, each once."""
    found = {
        (u.metric, u.site, u.convention, u.orthonormal)
        for name, claim in claims().items()
        for u in claim.uses
        if of is None or name in of
    }
    return sorted(found, key=str)


def result(values, *, model="made-up", layers, samples, seed=0, setting=BASE, of=None):
    """A Result of one setting.

    Args:
        values: (metric, site) or metric -> (samples, layers); what is not named is 1 and some
            noise for rates, and noise about 0 for changes and cosines.
        of: names of the claims whose measures it holds; all when not given.
    """
    random = np.random.default_rng(seed)
    rows, arrays, numbers = [], {}, []
    for metric, site, convention, orthonormal in uses(of):
        given = values.get((metric, site), values.get(metric))
        if metric in WEIGHED:
            of_layer = np.full(layers, WEIGHED[metric]) if given is None else np.asarray(given)
            of_pairs = {"metric": metric, "site": "weights", "basis": "native", "count": 6}
            numbers += [of_pairs | {"layer": n + 1, "value": v} for n, v in enumerate(of_layer)]
            continue
        if given is None:
            level = 1.0 if metric in ("compression", "coding_rate", "rate_reduction") else 0.0
            given = level + 1e-3 * random.standard_normal((samples, layers))
        for n in range(layers):
            row = {"metric": metric, "site": site or "z_out", "layer": n + 1}
            row |= {"basis": "native+qr" if orthonormal else "native", "convention": convention}
            row |= {"prenorm": setting.prenorm, "class_token": setting.class_token}
            row |= {"eps": setting.eps, "lam": setting.lam}
            key = f"{metric} {site} {convention} {orthonormal} {n}"
            rows.append(row | {"key": key})
            arrays[key] = np.asarray(given)[:, n]
    table = pd.DataFrame(arrays)
    frame = tabulate(model=model, rows=rows, samples=table, numbers=numbers, seed=0)
    names = {}
    for name, row in zip(keys_of(frame), frame.to_dict("records"), strict=True):
        if row["site"] == "weights":
            continue
        site = row["site"]
        orthonormal = row["basis"].endswith("+qr")
        for there in (site, None):
            old = f"{row['metric']} {there} {row['convention']} {orthonormal} {row['layer'] - 1}"
            if old in arrays:
                names[old] = name
    run = SIZES | {"model": model, "family": "crate", "layers": layers, "seed": 0, "bounds": {}}
    run |= {"convention": "paper", "basis": "native", "measures": {}}
    return Result(frame, table.rename(columns=names), {}, run)


def flat(layers, samples, *, seed, spread=1.0):
    """Curves without a trend: each sample's layers differ by chance, and so do their means."""
    random = np.random.default_rng(seed)
    means = 10 + spread * random.standard_normal(layers)
    return means + 0.1 * random.standard_normal((samples, layers))


def walk(layers, samples, *, seed, spread=1.0):
    """Curves that are walks: each layer adds to the one before, up or down by chance."""
    random = np.random.default_rng(seed)
    means = 10 + np.cumsum(spread * random.standard_normal(layers))
    return means + 0.1 * random.standard_normal((samples, layers))


def shows_nothing(curves, layers, *, seed, samples=16):
    """Values of a model of which everything is in favour of the claims but its curves.

    Args: curves: `flat` or `walk`.
    """
    random = np.random.default_rng(seed)
    R = curves(layers, samples, seed=seed, spread=2)
    step = -1 + 0.1 * random.standard_normal((samples, 1))
    values = {
        ("compression", "z_in"): R,
        ("compression", "z_out"): R - 1,
        "attention_rate_change_tangential": step,
        "attention_rate_change": step,
        "l0": curves(layers, samples, seed=seed + 10_000, spread=1) / 20,
        "sparse_rate_reduction": curves(layers, samples, seed=seed + 20_000, spread=2),
    }
    return {name: np.broadcast_to(each, (samples, layers)) for name, each in values.items()}


def together(one, other):
    """A Result with the rows of both, of two settings."""
    there = other.samples.rename(columns={c: f"{c} beside" for c in other.samples.columns})
    frame = pd.concat([one.frame, other.frame[~other.frame["metric"].isin(WEIGHED)]])
    frame = frame.reset_index(drop=True)
    numbers = [*one.samples.columns, *there.columns]
    samples = pd.concat([one.samples, there], axis=1)
    rows = frame[frame["site"] != "weights"]
    names = dict(zip(numbers, keys_of(rows), strict=True))
    return Result(frame, samples.rename(columns=names), {}, one.run)
