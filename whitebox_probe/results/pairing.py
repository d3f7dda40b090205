"""Which rows of two results mean the same, what forbids to pair them, and what has to be told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import QR, Run, same
from whitebox_probe.results.table import SETTINGS, no_value, same_number, with_settings, written

HEADS = "heads"
NATIVE, PROJECTION = "native", "qkv:"
_TOLD = ("site", *SETTINGS)
_FITTED = ("pca",)
_DRAWN = ("random", "pca:clusters")
_HOW_MANY = ("limit", "skipped")  # how many samples were drawn: those that both have are paired
_RUN = {"dtype": "dtype", "fast": "fast", "nonfinite": "nonfinite", "seed": "seed"}


@dataclass(frozen=True, eq=False)
class Pair:
    """The rows of one measure, site and setting of two results, a row a layer.

    Attributes: first, second: rows with their `key` in the samples. place: what both have in
        common, as columns of the differences.
    """

    metric: str
    first: pd.DataFrame
    second: pd.DataFrame
    place: Mapping[str, Any]
    sampled: bool


def expect_same_data(first: Result, second: Result) -> None:
    """Raise ResultError unless two results are known to be of the same samples, one by one."""
    one, two = first.run, second.run
    known = _expect_same_samples(first, second)
    for key in sorted((one.data.keys() & two.data.keys()) - {*_HOW_MANY}):
        here, there = one.data[key], two.data[key]
        if key == "fingerprint" and known:
            continue  # of other numbers of samples, that of what was read is another
        if key == "classes" and one.data.get("fingerprint") != two.data.get("fingerprint"):
            continue  # those of other numbers of samples, of which a note tells
        if not same(here, there):
            raise ResultError(
                f"the results differ in data: {one.model} has {key} {_json(here)}, "
                f"{two.model} has {_json(there)}",
                "samples of different data cannot be paired",
                "Probe all models on the same data",
            )
    if not known and not (one.data.get("fingerprint") and two.data.get("fingerprint")):
        raise ResultError(
            f"the data of {one.model} and {two.model} are not known to be the same",
            "a result has no fingerprint of what was read",
            "Probe both again with this version",
        )


def _expect_same_samples(first: Result, second: Result) -> bool:
    """Whether the samples that both have are known to be the same.

    Raises: ResultError for samples of one number that are not.
    """
    ours, theirs = (uncopied(result, "identities") for result in (first, second))
    if ours is None or theirs is None:
        return False
    here, there = ours.align(theirs, join="inner")
    other = here.index[(here != there).to_numpy()]
    if len(other):
        raise ResultError(
            f"the results differ in data: {first.model} has {len(ours)} samples, "
            f"{second.model} has {len(theirs)}, and {len(other)} of {len(here)} samples "
            f"whose number both have are not the same, such as sample {other[0]}",
            "samples of different data, or in another order, cannot be paired",
            "Probe all models on the same data, in one order (a loader may shuffle)",
        )
    return len(here) > 0


def pairs_of(one: Result, two: Result) -> list[Pair]:
    """All curves that two results took alike.

    Raises: ResultError for a measure that both have, but only with different settings.
    """
    groups = [_curves(result) for result in (one, two)]
    found = []
    for metric in [m for m in groups[0] if m in groups[1]]:
        _expect_same_measure(metric, one.run, two.run)
        mine = [
            _pair(metric, first, second)
            for first in groups[0][metric]
            for second in _partners(first, groups[1][metric], one.run, two.run)
        ]
        # Of a model without a class token, either way is the same; where both took it, that one.
        mine = [pair for pair in mine if _same("class_token", pair.first, pair.second)] or mine
        if not mine:
            raise _differ(metric, one, two, groups[0][metric], groups[1][metric])
        found += mine
    _expect_same_fit(one.run, two.run, found)
    return found


def _curves(result: Result) -> dict[str, list[pd.DataFrame]]:
    """Metric -> its curves, one for each site and setting."""
    frame = with_settings(uncopied(result, "frame")).assign(key=result.keys())
    frame["class_token_counts"] = result.run.class_token_counts
    frame["sampled"] = frame["key"].isin(uncopied(result, "samples").columns)
    groups: dict[str, list[pd.DataFrame]] = {}
    columns = ["metric", *_TOLD]
    for place, rows in frame.groupby(columns, sort=False, dropna=False):
        groups.setdefault(str(place[0]), []).append(rows.sort_values("layer"))
    return groups


def _partners(
    first: pd.DataFrame, others: Sequence[pd.DataFrame], one: Run, two: Run
) -> list[pd.DataFrame]:
    """The curves that were taken as this one was; where none was, those of a family's own U."""
    alike = [o for o in others if all(_agree(n, first, o) for n in _TOLD if n != "basis")]
    equal = [other for other in alike if _agree("basis", first, other)]
    if equal or one.family == two.family:
        return equal
    return [other for other in alike if _own(first, other)]


def _agree(name: str, first: pd.DataFrame, second: pd.DataFrame) -> bool:
    if name == "class_token" and not (_counts(first) and _counts(second)):
        return True
    return _same(name, first, second)


def _counts(rows: pd.DataFrame) -> bool:
    """Whether the class token, or its absence, changes these rows."""
    return bool(rows["class_token_counts"].iloc[0])


def _same(name: str, first: pd.DataFrame, second: pd.DataFrame) -> bool:
    here, there = first[name].iloc[0], second[name].iloc[0]
    if no_value(here) or no_value(there):
        return no_value(here) and no_value(there)
    if name == "site" and HEADS in (here, there):
        return str(here).startswith(HEADS) and str(there).startswith(HEADS)
    if name in ("eps", "lam"):
        return bool(same_number(here, there))
    return bool(here == there)


def _own(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether each basis is its family's own projection: native, and one of queries or keys."""
    bases = [str(rows["basis"].iloc[0]) for rows in (first, second)]
    if bases[0].endswith(QR) != bases[1].endswith(QR):
        return False
    plain = [basis.removesuffix(QR) for basis in bases]
    return NATIVE in plain and any(basis.startswith(PROJECTION) for basis in plain)


def _pair(metric: str, first: pd.DataFrame, second: pd.DataFrame) -> Pair:
    place = {name: first[name].iloc[0] for name in _TOLD if name != "basis"}
    if not _counts(first):
        place["class_token"] = second["class_token"].iloc[0]
    bases = {"first_basis": first["basis"].iloc[0], "second_basis": second["basis"].iloc[0]}
    site = place.pop("site")
    if site != second["site"].iloc[0]:
        site = HEADS
    sampled = bool(first["sampled"].all() and second["sampled"].all())
    return Pair(metric, first, second, {"metric": metric, "site": site, **bases, **place}, sampled)


def _differ(
    metric: str,
    one: Result,
    two: Result,
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
) -> ResultError:
    """What two results took differently, of a measure that they took nowhere alike."""
    nearest = min(
        ((f, s) for f in first for s in second),
        key=lambda pair: sum(not _agree(name, *pair) for name in _TOLD),
    )
    names = [name for name in _TOLD if not _agree(name, *nearest)]
    if "convention" in names:  # which sets the site and the treatment of norms
        names = [name for name in names if name not in ("site", "prenorm")]
    labels = [str(rows["basis"].iloc[0]).endswith(QR) for rows in nearest]
    what = ["orthonormal" if n == "basis" and labels[0] != labels[1] else n for n in names]
    told = [
        f"{result.model} has {' and '.join(_words(name, rows) for name in names)}"
        for result, rows in zip((one, two), nearest, strict=True)
    ]
    return ResultError(
        f"the results differ in {' and '.join(what)} of '{metric}': {'; '.join(told)}",
        "their numbers do not mean the same",
        f"Probe all models with the same {' and '.join(what)}, or without '{metric}'",
    )


def _words(name: str, rows: pd.DataFrame) -> str:
    value = written(rows[name].iloc[0])
    return f"{name} {value or ('of the model itself' if name == 'null' else 'of no effect')}"


def _expect_same_measure(metric: str, one: Run, two: Run) -> None:
    expect_same_parameters(metric, one, two)
    here, there = one.measures.get(metric, {}), two.measures.get(metric, {})
    drawn = {"label", "better", "group", "bases"}  # what a figure says does not change a number
    for key in sorted({*here, *there} - drawn):
        if not same(here.get(key), there.get(key)):
            raise ResultError(
                f"the results differ in {key} of '{metric}': {one.model} has "
                f"{_json(here.get(key))}, {two.model} has {_json(there.get(key))}",
                "their numbers do not mean the same",
                f"Probe both with the same '{metric}'",
            )


def expect_same_parameters(metric: str, one: Run, two: Run) -> None:
    """Check that two results took a measure with the same parameters of its own.

    Raises: ResultError.
    """
    of = str(one.measures.get(metric, {}).get("metric", metric))  # a measure may have several rows
    here, there = one.parameters(of), two.parameters(of)
    for key in here.keys() & there.keys():  # an earlier version may not have had it
        if not same(here[key], there[key]):
            raise ResultError(
                f"the results differ in {key} of '{of}': {one.model} has {_json(here[key])}, "
                f"{two.model} has {_json(there[key])}",
                "their numbers do not mean the same",
                f"Probe both with the same {key}, or without '{of}'",
            )


def _expect_same_fit(one: Run, two: Run, pairs: Sequence[Pair]) -> None:
    here, there = one.settings.get("fit"), two.settings.get("fit")
    fitted = [p.metric for p in pairs if str(p.place["first_basis"]).startswith(_FITTED)]
    if fitted and not same(here, there):
        raise ResultError(
            f"the results differ in the data that the basis of '{fitted[0]}' was fitted on: "
            f"{one.model} has {_json(here)}, {two.model} has {_json(there)}",
            "their bases do not mean the same",
            "Probe all models with the same fit_data and fit_limit",
        )


def notes_of(one: Run, two: Run, pairs: Sequence[Pair]) -> list[str]:
    """What differs that does not forbid a comparison, one line each."""
    notes = []

    def note(what: str, here: Any, there: Any, why: str) -> None:
        if not same(here, there):
            told = f"{one.model} has {_json(here)}, {two.model} has {_json(there)}"
            notes.append(f"{what}: {told}; {why}")

    note("preprocessing", one.preprocess, two.preprocess, "the models saw different inputs")
    known = one.checkpoint.get("sha256")
    if known and known == two.checkpoint.get("sha256"):
        note("the network of the same weights", one.network, two.network, "its steps differ")
    drawn = [p for p in pairs if p.place["null"] or p.place["first_basis"].startswith(_DRAWN)]
    random = "samples and random draws" if drawn else "samples"
    why = {"seed": f"{random} were drawn by it", "nonfinite": "samples may have been left out"}
    for name in _RUN:
        rounding = "features differ by rounding"
        note(name, one.settings.get(name), two.settings.get(name), why.get(name, rounding))
    for key in _HOW_MANY:
        note(key, one.data.get(key), two.data.get(key), "samples that both have are paired")
    for key in sorted((one.data.keys() ^ two.data.keys()) - {*_HOW_MANY, "classes"}):
        note(key, one.data.get(key), two.data.get(key), "the fingerprint of the data is the same")
    note("the number of samples", one.count, two.count, "samples that both have are paired")
    note("labels", one.labels, two.labels, "class-wise measures depend on them")
    note("thresholds", one.thresholds, two.thresholds, "verdicts depend on them")
    for name in ("whitebox-probe", "torch"):
        here, there = one.versions.get(name), two.versions.get(name)
        note(f"the version of {name}", here, there, "it computed the numbers")
    for first, second in sorted({_bases(p) for p in pairs if len(set(_bases(p))) > 1}):
        notes.append(f"basis: {one.model} uses {first}, {two.model} {second}: each its own")
    return notes


def _bases(pair: Pair) -> tuple[str, str]:
    return str(pair.place["first_basis"]), str(pair.place["second_basis"])


def _json(value: Any) -> str:
    return "none recorded" if value is None else json.dumps(value, sort_keys=True)
