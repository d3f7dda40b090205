"""From the results of models, and of draws of random weights, to a verdict on each claim.

A claim is supported if its effect is on its side and of size (its own rule), is no chance (its p,
Holm-corrected over the model's claims), is more than random weights show, and is not overturned by
another setting. The comparison with random weights is a filter and no test: no rank among 20 draws
is below 1/21, so the value must lie outside the prediction interval of one more draw, at a level
that is shared by the claims (Bonferroni).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.auditing.claim import Claim, Finding, claims
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import (
    CONTRADICTED,
    DEPENDS,
    NOT_APPLICABLE,
    NOT_SUPPORTED,
    SUPPORTED,
    Audit,
    tabulated,
)
from whitebox_probe.results.result import Result
from whitebox_probe.stats import holm, prediction_interval, rank_p

LEAST_HALF = 8
"""Samples, below which half of them say too little to overturn anything."""
_OF_CURVES = ["claim", "model", "layer", "mean", "ci_low", "ci_high", "unit"]
_OF_CURVES += ["null_mean", "null_least", "null_most"]


@dataclass(frozen=True)
class Measured:
    """A model's result, and what is looked at in it.

    Attributes: result: of the model. base: the setting of its verdicts. others: those around it, in
        `around`. nulls: what stands for no training -> the same measured with draws of it. absent:
        claim -> why it was not measured.
    """

    result: Result
    base: Setting
    others: Sequence[Setting] = ()
    around: Result | None = None
    nulls: Mapping[str, Sequence[Result]] = field(default_factory=dict)
    absent: Mapping[str, str] | None = None


class _Read:
    """The results of a model, as claims read them."""

    def __init__(self, measured: Measured) -> None:
        self.of = measured
        self.result = Readings(measured.result)
        same = measured.around is measured.result
        self.around = None if measured.around is None else self.result
        if measured.around is not None and not same:
            self.around = Readings(measured.around)
        self.nulls = {kind: [*map(Readings, each)] for kind, each in measured.nulls.items()}

    def find(self, claim: Claim, result: Readings, setting: Setting, by: Thresholds) -> Finding:
        """What a claim finds in one of them."""
        absent = self.of.absent or {}
        if claim.name in absent:
            return Finding(missing=absent[claim.name])
        if result.count == 1:
            return Finding(missing="one sample says nothing of the others")
        if claim.of_one_size and result.run.tokens_change:
            return Finding(missing="its layers hold different numbers of tokens: rates grow with n")
        if setting.samples is not None:
            result = result.first(setting.samples)
        found = claim.find(result, setting, by)
        if not found.missing and np.isnan(found.value):
            return Finding(missing="what it is about is zero, or no number")
        if found.few:
            return replace(found, side=0, p=float("nan"), tested="")
        # A test over layers takes their means for exact: samples have to agree on the sign.
        if found.tested == "layers" and found.side and found.low <= 0 <= found.high:
            return replace(found, side=0, why="its interval over samples holds no effect at all")
        return found


def judge(
    models: Mapping[str, Measured],
    *,
    thresholds: Thresholds | None = None,
    settings: Mapping[str, Any] | None = None,
    of: Sequence[Claim] | None = None,
) -> Audit:
    """Compute the verdicts.

    Args: models: by name. of: the claims, all when not given.
    Raises: ResultError when there is no model.
    """
    if not models:
        raise ResultError("there is nothing to judge", "no model was given", "Pass one or more")
    t = thresholds or Thresholds()
    those = list(claims().values()) if of is None else list(of)
    rows, robustness, parts, curves = [], [], [], []
    for name, measured in models.items():
        for row, others, found, curve in _judged(name, measured, those, t):
            rows.append(row)
            robustness += others
            at = {"model": name, "claim": row["claim"]}
            parts += [at | {"part": k, "value": v} for k, v in found.parts.items()]
            curves += [] if curve is None else [curve]
    return Audit(
        pd.DataFrame(rows),
        tabulated(
            robustness, ["model", "claim", "setting", "counts", "value", "p", "agrees", "why"]
        ),
        tabulated(parts, ["model", "claim", "part", "value"]),
        pd.concat(curves, ignore_index=True) if curves else tabulated([], _OF_CURVES),
        t,
        settings or {},
        {claim.name: _rule(claim) for claim in those},
        {name: each.result for name, each in models.items()},
        {name: tuple(chain(*each.nulls.values())) for name, each in models.items()},
    )


def _rule(claim: Claim) -> dict[str, str]:
    return {
        "claim": claim.text,
        "statistic": claim.statistic.format(first="`first_layer`"),
        "unit": claim.unit,
        "rule": claim.rule,
        "keeps its meaning under": ", ".join(claim.keeps),
        "loses its meaning under": "; ".join(f"{k}: {why}" for k, why in claim.loses.items()),
        "about": " ".join((type(claim).__doc__ or "").split()),
    }


def _judged(
    name: str, measured: Measured, those: Sequence[Claim], t: Thresholds
) -> list[tuple[dict[str, Any], list[dict[str, Any]], Finding, pd.DataFrame | None]]:
    """Of each claim its row, the rows of its other settings, what was found, and its curve."""
    read = _Read(measured)
    found = {claim.name: read.find(claim, read.result, measured.base, t) for claim in those}
    tested = [each for each in found.values() if not (each.missing or each.few)]
    corrected = _corrected(found)
    around = _around(read, those, t)
    made = []
    for claim in those:
        own = found[claim.name]
        null = _null(claim, own, read, t, len(tested))
        p = corrected[claim.name]
        decided = own.side if p <= t.alpha else 0
        others = [] if own.missing or own.few else _others(claim, name, decided, around, t)
        verdict, reason = _verdict(own, p, null, others, t)
        row = {
            "model": name,
            "claim": claim.name,
            "text": claim.text,
            "statistic": claim.statistic.format(first=measured.base.first_layer),
            "unit": claim.unit,
            "value": own.value,
            "ci_low": own.low,
            "ci_high": own.high,
            "p": own.p,
            "p_holm": p,
            "tested": own.tested,
            "samples": read.result.count,
            **null,
            "robust": "" if own.missing or own.few else _robust(others),
            "verdict": verdict,
            "reason": reason,
            "sentence": "" if own.missing else claim.sentence(own),
        }
        curve = None if own.missing else _curve(claim, name, read)
        made.append((row, others, own, curve))
    return made


def _null(claim: Claim, own: Finding, read: _Read, t: Thresholds, family: int) -> dict[str, Any]:
    """What no training shows, and whether the value lies beyond it, on the side that it is on.

    Of several kinds the one is told that it lies least beyond.
    """
    nothing = dict.fromkeys(("null_mean", "null_low", "null_high", "null_p"), float("nan"))
    told: dict[str, Any] = {"compared": own.compared, "null": "", "null_draws": 0}
    told |= {**nothing, "beyond_null": ""}
    least = np.inf
    for kind, results in read.nulls.items() if not own.missing else ():
        values = [claim.compared(result, read.of.base, t) for result in results]
        draws = np.array([value for value in values if not np.isnan(value)])
        if len(draws) < 2:
            continue
        low, high = prediction_interval(draws, family=family, level=1 - t.alpha)
        lower = (claim.wants == "low") == (own.side >= 0)
        beyond = low - own.compared if lower else own.compared - high
        if beyond < least:
            least = beyond
            told |= {
                "null": kind,
                "null_draws": len(draws),
                "null_mean": float(draws.mean()),
                "null_low": low,
                "null_high": high,
                "null_p": rank_p(own.compared, draws, direction=claim.wants),
                "beyond_null": "yes" if beyond > 0 else "no",
            }
    return told


def _corrected(found: Mapping[str, Finding]) -> dict[str, float]:
    """Claim -> its p, Holm-corrected over the claims."""
    every = holm(np.array([each.p for each in found.values()]))
    return dict(zip(found, map(float, every), strict=True))


@dataclass(frozen=True)
class _Around:
    """What claims find under one setting, on the samples on which all settings are looked at.

    Attributes: setting: one, or the usual one. found: claim -> what it finds, by the thresholds.
        halved: the same by half of the sizes. p: claim -> corrected over the claims.
    """

    setting: Setting
    found: Mapping[str, Finding]
    halved: Mapping[str, Finding]
    p: Mapping[str, float]


def _around(read: _Read, those: Sequence[Claim], t: Thresholds) -> list[_Around]:
    """The usual setting first, then each other one; empty where none was measured.

    The usual one is found anew: samples may be fewer here than those of the verdict.
    """
    if read.around is None:
        return []
    usual = _under(read.of.base, read, those, t)
    others = list(read.of.others)
    half = read.around.count // 2
    if others and half >= LEAST_HALF:
        others.append(replace(read.of.base, samples=half, axis="samples"))
    return [usual, *(_under(each, read, those, t, usual) for each in others)]


def _under(
    setting: Setting,
    read: _Read,
    those: Sequence[Claim],
    t: Thresholds,
    usual: _Around | None = None,
) -> _Around:
    """One setting; a claim that does not depend on it finds what it finds under the usual one."""
    assert read.around is not None
    found, halved = {}, {}
    for claim in those:
        if usual is None or claim.looks_at(setting):
            found[claim.name] = read.find(claim, read.around, setting, t)
            halved[claim.name] = read.find(claim, read.around, setting, t.halved())
        else:
            found[claim.name] = usual.found[claim.name]
            halved[claim.name] = usual.halved[claim.name]
    return _Around(setting, found, halved, _corrected(found))


def _others(
    claim: Claim, name: str, decided: int, around: Sequence[_Around], t: Thresholds
) -> list[dict[str, Any]]:
    """The claim under each other setting, and whether that agrees with the usual one.

    With an effect on one side (`decided` is 1 or -1) another setting agrees if it is on that side,
    half as large at least, and no chance by itself. With none it agrees if it shows none: as the
    usual one does, by whole sizes, and corrected over the claims.
    """
    rows: list[dict[str, Any]] = []
    if not around:
        return rows
    usual = _side_of(claim.name, decided, around[0], t)
    for each in around[1:]:
        if not claim.looks_at(each.setting):
            continue
        other = each.found[claim.name]
        absent = other.missing or other.few
        counts = each.setting.axis in claim.keeps and not absent
        rows.append(
            {
                "model": name,
                "claim": claim.name,
                "setting": each.setting.told(orthonormal=claim.uses[0].orthonormal),
                "counts": counts,
                "value": other.value,
                "p": other.p,
                "agrees": not absent and _side_of(claim.name, decided, each, t) == usual,
                "why": claim.loses.get(each.setting.axis, "") or absent or other.why,
            }
        )
    return rows


def _side_of(claim: str, decided: int, here: _Around, t: Thresholds) -> int:
    """On which side a claim's effect is under a setting, as it is asked of it."""
    found = here.halved[claim] if decided else here.found[claim]
    p = found.p if decided else here.p[claim]
    return found.side if p <= t.alpha else 0


def unsettled(measured: Measured, t: Thresholds) -> bool:
    """Whether the samples around the usual setting are too few to see there what all of them show.

    Other settings can then not be told from it: they have to be measured on all samples.
    """
    read = _Read(measured)
    if read.around is None or read.around is read.result:
        return False
    those = list(claims().values())
    found = {claim.name: read.find(claim, read.result, measured.base, t) for claim in those}
    p, here = _corrected(found), _under(measured.base, read, those, t)
    decided = {name: each.side if p[name] <= t.alpha else 0 for name, each in found.items()}
    return any(side and _side_of(name, side, here, t) != side for name, side in decided.items())


def _flips(others: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that count and do not agree."""
    return [str(each["setting"]) for each in others if each["counts"] and not each["agrees"]]


def _robust(others: Sequence[Mapping[str, Any]]) -> str:
    flips = _flips(others)
    return "flips with " + ", ".join(flips) if flips else "robust"


def _verdict(
    own: Finding,
    p: float,
    null: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    t: Thresholds,
) -> tuple[str, str]:
    """The verdict, and the reason of one that is not plain support."""
    if own.missing or own.few:
        return NOT_APPLICABLE, own.missing or own.few
    if own.side == 0:
        return NOT_SUPPORTED, own.why
    if not p <= t.alpha:
        return NOT_SUPPORTED, f"it may be chance: p = {p:.2g}, corrected over the claims"
    if own.side > 0 and null["beyond_null"] == "no":
        low, high = null["null_low"], null["null_high"]
        part = "" if own.compared == own.value else f" than the {own.compared:.3g} of its own"
        return NOT_SUPPORTED, f"{null['null']} show as much or more{part}: {low:.3g} to {high:.3g}"
    flips = _flips(others)
    side = SUPPORTED if own.side > 0 else CONTRADICTED
    if flips:
        axes = dict.fromkeys(flip.partition("=")[0] for flip in flips)
        return f"{DEPENDS} {', '.join(axes)}", f"{side} as usual, not with {', '.join(flips)}"
    if own.side < 0:
        shared = null["beyond_null"] == "no"
        return side, own.why + (f", no more than with {null['null']}" if shared else "")
    return side, "" if null["null"] else "no random weights to compare it with"


def _curve(claim: Claim, name: str, read: _Read) -> pd.DataFrame:
    base = read.of.base
    mine = claim.curve(read.result, base)
    mine.insert(0, "claim", claim.name)
    mine.insert(1, "model", name)
    mine["unit"] = read.result.run.measures.get(claim.uses[0].metric, {}).get("unit", "")
    drawn_of = chain(*read.nulls.values())
    every = [claim.curve(null, base)["mean"].to_numpy() for null in drawn_of]
    drawn = np.array(every) if every else np.full((1, len(mine)), np.nan)
    mine["null_mean"] = drawn.mean(axis=0)
    mine["null_least"], mine["null_most"] = drawn.min(axis=0), drawn.max(axis=0)
    return mine
