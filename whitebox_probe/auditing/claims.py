"""The claims of the sparse rate reduction principle, and how a verdict on each is computed.

No verdict is worded by hand: each claim has one statistic with a 95% interval, a null, and the
rule below with the thresholds of `Thresholds`. A verdict is on the model alone; `beyond_null` says
whether the same architecture with random weights does it less.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.results.result import Result
from whitebox_probe.stats import bootstrap_interval

SUPPORTED, NOT, CONTRADICTED, NA, UNJUDGED = (
    "supported",
    "not supported",
    "contradicted",
    "not applicable",
    "not judged",
)


@dataclass(frozen=True)
class Thresholds:
    """All numbers that verdicts depend on.

    Attributes:
        rho: rank correlation with depth that a trend must reach, in size, to be called one.
        cosine: mean cosine that an update must reach to count as pointing along a direction.
        keeps: share of its first value that R must keep to count as not collapsed.
        rises: share of steps from layer to layer that must rise significantly for an objective to
            count as improving layer after layer.
        zeros: share of exact zeros that a model must reach somewhere for its l0 to mean anything.
    """

    rho: float = 0.5
    cosine: float = 0.1
    keeps: float = 0.8
    rises: float = 0.5
    zeros: float = 0.001


@dataclass(frozen=True)
class Statistic:
    """A number with its 95% interval; `extra` adds to the rule, `missing` is why there is none."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    extra: float = float("nan")
    missing: str = ""


Taken = Mapping[str, Result]
"""The results of one model: `official` and `paper` (rates), `steps` (fidelity), by convention."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: in tables. text: in words. statistic: what is tested. rule: when it is supported.
        run, metric: which of a model's results, and which measure, shows it against depth.
        wants: `low` or `high` values of the statistic.
        take: computes the statistic. judge: statistic and thresholds -> verdict.
        revised: why there is no verdict while the rule is under revision; "" where there is one.
    """

    name: str
    text: str
    statistic: str
    rule: str
    run: str
    metric: str
    wants: str
    take: Callable[[Taken, Thresholds], Statistic]
    judge: Callable[[Statistic, Thresholds], str]
    revised: str = ""


def _below_zero(s: Statistic, t: Thresholds) -> str:
    return SUPPORTED if s.high < 0 else CONTRADICTED if s.low > 0 else NOT


def _aligned(s: Statistic, t: Thresholds) -> str:
    if s.low > 0 and s.value >= t.cosine:
        return SUPPORTED
    return CONTRADICTED if s.high < 0 and s.value <= -t.cosine else NOT


def _keeps(s: Statistic, t: Thresholds) -> str:
    return SUPPORTED if s.low >= t.keeps else CONTRADICTED if s.high < t.keeps else NOT


def _improves(s: Statistic, t: Thresholds) -> str:
    if s.low > 0 and s.extra >= t.rises:
        return SUPPORTED
    return CONTRADICTED if s.high < 0 else NOT


def _falls_with_depth(s: Statistic, t: Thresholds) -> str:
    """Both the rank correlation (`value`) and the change from first to last layer (`extra`)."""
    if s.value <= -t.rho and s.high < 0 and s.extra < 0:
        return SUPPORTED
    return CONTRADICTED if s.value >= t.rho and s.low > 0 and s.extra > 0 else NOT


def _trend(run: str, metric: str) -> Callable[[Taken, Thresholds], Statistic]:
    def take(taken: Taken, t: Thresholds) -> Statistic:
        found = taken[run].trend(metric)
        # What an interval of the change does not exclude is no change.
        sign = found.change if found.change_low * found.change_high > 0 else 0.0
        return Statistic(found.rho, found.rho_low, found.rho_high, extra=sign)

    return take


def _sparsity(taken: Taken, t: Thresholds) -> Statistic:
    values = taken["steps"].values("l0")
    if 1 - values.mean(axis=0).min() < t.zeros:
        return Statistic(missing="the model makes no exact zeros")
    return _trend("steps", "l0")(taken, t)


def _kept(taken: Taken, t: Thresholds) -> Statistic:
    values = taken["official"].values("coding_rate")
    first, last = values[:, :1], values[:, -1:]
    # A ratio of means: resampled through its linearisation, as the delta method has it.
    ratio = float(last.mean() / first.mean())
    low, high = bootstrap_interval((last - ratio * first) / first.mean(), seed=0)
    return Statistic(ratio, ratio + float(low[0]), ratio + float(high[0]))


def _mean_over_layers(run: str, metric: str) -> Callable[[Taken, Thresholds], Statistic]:
    def take(taken: Taken, t: Thresholds) -> Statistic:
        result = taken[run]
        if metric not in set(result.frame["metric"]):
            return Statistic(missing="its layers have no such step")
        values = result.values(metric)
        means = values.mean(axis=1, keepdims=True)
        low, high = bootstrap_interval(means, seed=int(result.run["seed"]))
        falling = float((values.mean(axis=0) < 0).mean())
        return Statistic(float(means.mean()), float(low[0]), float(high[0]), extra=falling)

    return take


def _incoherent(taken: Taken, t: Thresholds) -> Statistic:
    result = taken["steps"]
    mine = result.curve("overlap_mean")["mean"].to_numpy()
    chance = result.curve("overlap_random")["mean"].to_numpy()
    if np.isnan(mine).any():
        return Statistic(missing="it has one head")
    excess = mine / chance - 1
    low, high = overlap_null(result)
    # The interval is that of the null about the value: below chance if 0 is above it.
    return Statistic(float(excess.mean()), float(excess.mean() + low), float(excess.mean() + high))


def overlap_null(result: Result, *, draws: int = 200) -> tuple[float, float]:
    """95% range of the mean relative overlap of random subspaces of a model's sizes."""
    run = result.run
    random = np.random.default_rng(0)
    d, K, p = run["dim"], run["heads"], run["dim_head"]
    one = np.empty(draws)
    for i in range(draws):
        Q = np.linalg.qr(random.standard_normal((K, d, p)))[0]
        cross = np.einsum("kdp,jdq->kjpq", Q, Q)
        shares = (cross**2).sum(axis=(2, 3)) / p
        one[i] = shares[np.triu_indices(K, 1)].mean() / (p / d) - 1
    # Layers are drawn independently: the mean over L of them.
    means = random.choice(one, size=(2000, run["layers"])).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _objective(taken: Taken, t: Thresholds) -> Statistic:
    found = taken["paper"].trend("sparse_rate_reduction")
    return Statistic(found.change, found.change_low, found.change_high, extra=found.rising)


CLAIMS = (
    Claim(
        "compresses",
        "R^c falls with depth",
        "Spearman's rho of R^c (official convention) with the layer",
        "rho is at most -`rho`, and its interval and the change over all layers are below 0",
        "official",
        "compression",
        "low",
        _trend("official", "compression"),
        _falls_with_depth,
    ),
    Claim(
        "keeps_expanding",
        "R of the whole does not collapse",
        "R (official convention) of the last layer over the first",
        "the interval is at or above `keeps`",
        "official",
        "coding_rate",
        "high",
        _kept,
        _keeps,
    ),
    Claim(
        "sparsifies",
        "the share of non-zero entries falls",
        "Spearman's rho of the l0 share of z_out with the layer",
        "rho is at most -`rho`, and its interval and the change over all layers are below 0",
        "steps",
        "l0",
        "low",
        _sparsity,
        _falls_with_depth,
    ),
    Claim(
        "incoherent_subspaces",
        "heads' subspaces overlap less than random ones",
        "|Q_i^T Q_j|_F^2/p over its expectation p/d, minus 1, mean over layers",
        "the value is below 0 by more than 95% of draws of random subspaces",
        "steps",
        "overlap_mean",
        "low",
        _incoherent,
        _below_zero,
    ),
    Claim(
        "attention_aligned",
        "the attention update points along -grad R^c",
        "cosine of the update and -grad R^c(X; U), mean over layers",
        "the interval is above 0, and the mean is at least `cosine`",
        "steps",
        "descent_cosine",
        "high",
        _mean_over_layers("steps", "descent_cosine"),
        _aligned,
    ),
    Claim(
        "attention_descends",
        "the attention step lowers R^c",
        "R^c(Z^(l+1/2)) - R^c(Z^l) in nats, mean over layers",
        "the interval is below 0",
        "steps",
        "attention_rate_change",
        "low",
        _mean_over_layers("steps", "attention_rate_change"),
        _below_zero,
    ),
    Claim(
        "ista_descends",
        "the ISTA step lowers its LASSO objective",
        "relative change of 1/2|Y - AD^T|^2 + lam|A|_1, mean over the layers with such a step",
        "the interval is below 0",
        "steps",
        "ista_objective_change",
        "low",
        _mean_over_layers("steps", "ista_objective_change"),
        _below_zero,
        revised="the rule is under revision: A = Y, where a CRATE's step is taken to start, has "
        "negative entries, which the objective of a step that ends in a ReLU does not allow",
    ),
    Claim(
        "objective_improves",
        "R - R^c - lam|Z|_0 rises layer after layer",
        "its change from first to last layer, in nats; and the share of steps that rise",
        "the interval is above 0, and at least `rises` of the steps rise by their interval",
        "paper",
        "sparse_rate_reduction",
        "high",
        _objective,
        _improves,
    ),
)


@dataclass(frozen=True)
class Audit:
    """Verdicts on models.

    Attributes:
        frame: one row a model and claim: statistic, 95% interval, the null's, whether the model
            is beyond it (its interval apart from the null's, on the claim's side), verdict, reason.
        curves: the measure behind each claim against depth, with the null's mean.
        thresholds: that the verdicts used.
        results: model -> run -> Result; empty for an audit that was read from disk.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    thresholds: Thresholds
    results: Mapping[str, Taken] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write audit.csv, audit-curves.csv and audit.json; returns the folder."""
        folder = Path(folder)
        for name, frame in (("audit", self.frame), ("audit-curves", self.curves)):
            with atomic_path(folder / f"{name}.csv") as path:
                frame.to_csv(path, index=False)
        whole = {
            "thresholds": asdict(self.thresholds),
            "rules": {c.name: {"claim": c.text, "rule": c.revised or c.rule} for c in CLAIMS},
            "verdicts": json.loads(self.frame.to_json(orient="records")),
        }
        with atomic_path(folder / "audit.json") as path:
            path.write_text(json.dumps(whole, indent=2) + "\n")
        return folder


def judge(
    models: Mapping[str, Taken],
    nulls: Mapping[str, Taken],
    *,
    thresholds: Thresholds | None = None,
    claims: Sequence[Claim] = CLAIMS,
) -> Audit:
    """Compute the verdicts.

    Args: models: name -> results. nulls: name -> the same of random weights, where there are any.
    Raises: ResultError when there is no model.
    """
    if not models:
        raise ResultError("there is nothing to judge", "no model was given", "Pass one or more")
    t = thresholds or Thresholds()
    rows, curves = [], []
    for name, taken in models.items():
        null = nulls.get(name)
        for claim in claims:
            found = claim.take(taken, t)
            other = claim.take(null, t) if null and not found.missing else Statistic()
            verdict = _verdict(claim, found, t)
            rows.append(
                {
                    "model": name,
                    "claim": claim.name,
                    "text": claim.text,
                    "statistic": claim.statistic,
                    "value": found.value,
                    "ci_low": found.low,
                    "ci_high": found.high,
                    "extra": found.extra,
                    "null": "random weights" if null else "",
                    "null_value": other.value,
                    "null_ci_low": other.low,
                    "null_ci_high": other.high,
                    "beyond_null": "" if claim.revised else _beyond(claim, found, other),
                    "verdict": verdict,
                    "reason": found.missing or claim.revised or claim.rule,
                }
            )
            if not found.missing:
                curves.append(_curve(claim, name, taken, null))
    return Audit(pd.DataFrame(rows), pd.concat(curves, ignore_index=True), t, dict(models))


def _verdict(claim: Claim, found: Statistic, t: Thresholds) -> str:
    if found.missing:
        return NA
    return UNJUDGED if claim.revised else claim.judge(found, t)


def _beyond(claim: Claim, found: Statistic, null: Statistic) -> str:
    """Whether a model does it more than random weights do: the intervals are apart."""
    if np.isnan(found.value) or np.isnan(null.value):
        return ""
    apart = found.high < null.low if claim.wants == "low" else found.low > null.high
    return "yes" if apart else "no"


def _curve(claim: Claim, name: str, taken: Taken, null: Taken | None) -> pd.DataFrame:
    mine = taken[claim.run].curve(claim.metric)[["layer", "mean", "ci_low", "ci_high"]].copy()
    mine.insert(0, "claim", claim.name)
    mine.insert(1, "model", name)
    mine["null_mean"] = (
        null[claim.run].curve(claim.metric)["mean"].to_numpy() if null else float("nan")
    )
    return mine
