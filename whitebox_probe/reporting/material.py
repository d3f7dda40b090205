"""What a report is made of: results, their nulls, what was found of them, sorted and checked."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from whitebox_probe._core.arguments import expect_each, finite, is_row
from whitebox_probe._core.errors import ProbeError, ResultError, expect_names_differ
from whitebox_probe.auditing.verdicts import SEAL as AUDIT
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.reporting import words
from whitebox_probe.results import compare as comparing
from whitebox_probe.results import similarity as similarities
from whitebox_probe.results.compare import Comparison
from whitebox_probe.results.folder import finish, folders_in
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.pairing import expect_same_data
from whitebox_probe.results.reading import TINY
from whitebox_probe.results.result import RUN, Result
from whitebox_probe.results.run import Run
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.table import COLUMNS
from whitebox_probe.results.view import View

KINDS = (Result, Comparison, Audit, Similarity, View)
MOST_PAIRED = 6
"""Models whose paired differences are shown, each with each."""
_TAKES = "Result, Comparison, Audit, Similarity, View, or folders that hold one"
_INIT = "-init"
_LAST_NUMBER = re.compile(r"\d+(?!.*\d)")
# What stands before the number of a step: that of a seed or a size is no step.
_OF_STEP = re.compile(r"(?:step|epoch|iter|iteration|ckpt|checkpoint)s?[-_=.]?#", re.IGNORECASE)
# The file that tells what a folder holds -> what reads it.
_READERS: dict[str, Any] = {
    RUN: Result.load,
    comparing.SEAL: Comparison.load,
    AUDIT: Audit.load,
    similarities.FILE: Similarity.load,
}


@dataclass(frozen=True)
class Material:
    """Everything that a report shows.

    Attributes:
        results: of models, in the order given. nulls: model -> results of its nulls, by kind.
        comparisons, audits, similarities, views: as they were given.
        steps: of the results, where they are of one training; None where they are not.
        folders: what was read, for the command that makes the report again.
        title: of the page.
    """

    results: Sequence[Result]
    nulls: Mapping[str, Mapping[str, Result]]
    comparisons: Sequence[Comparison]
    audits: Sequence[Audit]
    similarities: Sequence[Similarity]
    views: Sequence[View]
    steps: Sequence[float] | None = None
    folders: Sequence[str] = field(default=())
    title: str = ""

    @cached_property
    def names(self) -> dict[str, str]:
        """Model -> what it is called on the page."""
        told = [r.model for r in self.results]
        told += [m for each in self.comparisons for m in each.frame["model"]]
        told += [m for each in self.audits for m in each.frame["model"]]
        told += [m for each in self.similarities for m in (each.first, each.second)]
        told += [each.model for each in self.views]
        return words.names(list(dict.fromkeys(map(str, told))))

    @cached_property
    def shown(self) -> Sequence[Result]:
        """Results, or what comparisons hold of some, where no result is given."""
        return self.results or [r for each in self.comparisons for r in _of_comparison(each)]

    @property
    def sizes_differ(self) -> bool:
        """Whether raw nats of the results mean different things, or are not known not to."""
        known = all(r.run.heads for r in self.shown)
        return not known or len({r.run.sizes for r in self.shown}) > 1

    @cached_property
    def comparison(self) -> Comparison | ProbeError | None:
        """Of all results, or why there is none."""
        if self.comparisons:
            return self.comparisons[0]
        if len(self.results) < 2 or self.steps is not None:
            return None
        if len(self.results) > MOST_PAIRED:
            return ResultError(
                f"paired differences of {len(self.results)} models are not shown",
                "there would be too many pairs to read",
                f"Report on {MOST_PAIRED} models or fewer",
            )
        try:
            return comparing.compare(self.results)
        except ProbeError as error:
            return error


def gathered(
    given: Any,
    *,
    audit: Audit | Sequence[Audit] | None = None,
    steps: Sequence[float] | None = None,
    title: str | None = None,
) -> Material:
    """Sort what was given, one thing or many, folders included.

    Raises: ProbeError for what a report does not show, or nothing at all; ResultError for two
        results of one name, or of different data.
    """
    if steps is not None:
        steps = expect_each("steps", steps, finite, "each result is of its own step")
    folders: list[str] = []
    placed = [*_each(given, folders), *_each(() if audit is None else audit, folders)]
    things = [thing for thing, _ in placed]
    by: dict[type, list[Any]] = {kind: [t for t in things if isinstance(t, kind)] for kind in KINDS}
    results = [r for r in by[Result] if not _null_of(r)]
    nulls = _nulls(results, [r for r in by[Result] if _null_of(r)])
    if not things:
        raise ProbeError("there is nothing to report", "nothing was given", f"Pass {_TAKES}")
    places = [where for thing, where in placed if any(thing is r for r in results)]
    expect_names_differ([r.model for r in results], places if all(places) else ())
    for one, two in pairwise(results):
        expect_same_data(one, two)
    _expect_each_once(placed)
    return Material(
        results=_ordered(results, steps),
        nulls=nulls,
        comparisons=by[Comparison],
        audits=by[Audit],
        similarities=by[Similarity],
        views=by[View],
        steps=_steps([r.model for r in results], steps),
        folders=folders,
        title=title or "",
    )


def _expect_each_once(placed: Sequence[tuple[Any, Any]]) -> None:
    """Check that no comparison, audit, similarity or view is given twice.

    Args: placed: each with the folder that it was read from, if it was.
    Raises: ResultError.
    """
    for (one, here), (two, there) in combinations(placed, 2):
        if type(one) is type(two) and not isinstance(one, Result) and one == two:
            kind = type(one).__name__.lower()
            where = f" ({here} and {there})" if here and there else ""
            raise ResultError(
                f"the same {kind} is given twice{where}",
                "a report shows each thing once",
                "Leave one out",
            )


def read(folder: str | Path) -> list[tuple[Any, Path]]:
    """The thing that a folder holds, or the results in its folders, as of a series of steps.

    Returns: each with the folder that it lies in.
    Raises: ProbeError when it holds none, or several kinds.
    """
    folder = Path(folder)
    for each in (folder, *folders_in(folder)):
        with suppress(OSError):  # told when it is read
            finish(each)
    found = [seal for seal in _READERS if (folder / seal).is_file()]
    inside = [path for path in folders_in(folder) if (path / RUN).is_file()]
    if not found and inside:
        return [(Result.load(each), each) for each in inside]
    if not found:
        missing = f"it has none of: {', '.join(_READERS)}"
        deeper = next((p for p in folders_in(folder) if any(p.glob(f"*/{RUN}"))), None)
        raise ProbeError(
            f"{folder} holds nothing to report",
            missing if folder.is_dir() else "there is no such folder",
            f"Pass {deeper}, in which there are results"  # of a sweep: its cells
            if deeper
            else "Pass folders that run, compare or audit --out wrote",
        )
    if len(found) > 1:
        raise ProbeError(
            f"{folder} holds several things", f"it has {' and '.join(found)}", "Keep each by itself"
        )
    return [(_READERS[found[0]](folder), folder)]


def _of_comparison(comparison: Comparison) -> list[Result]:
    """Tables as results, with the sizes that a comparison tells: L, and n and d by its rates.

    Heads are not told, and are 0.
    """
    found = []
    for model, rows in comparison.frame.groupby("model", sort=False):
        rows = rows.reset_index(drop=True)
        rates = rows[rows["mean_per_token"].notna() & (rows["mean_per_token"] != 0)]
        units = {m: {"unit": u} for m, u in comparison.units.items()}
        units |= {str(m): {"unit": "nats"} for m in rates["metric"]}
        # Of rows that tell them: a rate by sizes that no run told is infinite, a denormal one's 0.
        told = rates[rates["mean_per_entry"].abs().between(TINY, math.inf, inclusive="left")]
        ends = told.iloc[0] if len(told) else None
        kept = [c for c in rows if c in COLUMNS]
        run = Run(
            model=str(model),
            layers=round(rows["layer"].iloc[0] / rows["relative_depth"].iloc[0]),
            tokens=0 if ends is None else round(ends["mean"] / ends["mean_per_token"]),
            dim=0 if ends is None else round(ends["mean_per_token"] / ends["mean_per_entry"]),
            heads=0,
            dim_head=0,
            count=int(rows["count"].max()),
            data={},
            settings={"seed": 0},
            measures=units,
        )
        found.append(Result(rows[kept], pd.DataFrame(), {}, run))
    return found


def _each(given: Any, folders: list[str]) -> Iterable[tuple[Any, Path | None]]:
    """What was given, one by one, with the folder that it was read from."""
    if isinstance(given, str | Path):
        folders.append(str(given))
        yield from read(given)
    elif isinstance(given, KINDS):
        yield given, None
    elif isinstance(given, Mapping):
        for each in given.values():
            yield from _each(each, folders)
    elif is_row(given):
        for each in given:
            yield from _each(each, folders)
    else:
        raise ProbeError(
            f"a {type(given).__name__} cannot be reported", "it is no result", f"Pass {_TAKES}"
        )


def _null_of(result: Result) -> str:
    name = result.model.partition(NULL_SEPARATOR)
    return result.run.null_of or (name[0] if name[1] else "")


def _nulls(results: Sequence[Result], nulls: Sequence[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {r.model: {} for r in results}
    for null in nulls:
        of = _null_of(null)
        if of not in found:
            raise ResultError(
                f"the null {null.model} belongs to none of the results",
                "it is shown with the model that it was taken of",
                "Pass that model's result too",
            )
        expect_same_data(next(r for r in results if r.model == of), null)
        kind = null.model.partition(NULL_SEPARATOR)[2] or "null"
        if kind in found[of]:
            raise ResultError(
                f"two nulls of {of} are called '{null.model}'",
                "their curves could not be told apart",
                "Pass one of them",
            )
        found[of][kind] = null
    return found


def _ordered(results: Sequence[Result], steps: Sequence[float] | None) -> list[Result]:
    """In the order of their steps, if they have any."""
    of = _steps([r.model for r in results], steps)
    if of is None:
        return list(results)
    given = dict(zip((r.model for r in results), _raw_steps(results, steps), strict=True))
    return sorted(results, key=lambda r: given[r.model])


def _raw_steps(results: Sequence[Result], steps: Sequence[float] | None) -> list[float]:
    return list(steps) if steps is not None else [_number(r.model) for r in results]


def _steps(names: Sequence[str], steps: Sequence[float] | None) -> list[float] | None:
    """The step of each result, sorted; None where they are of no training.

    Names tell steps if they differ in nothing but the last number, which is said to be of a step
    (`epoch-07`, `ckpt_1000`); one that ends in `-init` is of step 0.

    Raises: ProbeError for steps of another number, or two that are the same.
    """
    if steps is not None:
        if len(steps) != len(names) or len(set(steps)) < len(names):
            raise ProbeError(
                f"{len(set(steps))} steps are given for {len(names)} results",
                "each result is of its own step",
                "Pass as many, all different",
            )
        return sorted(float(step) for step in steps)
    rest = [n for n in names if not n.endswith(_INIT)]
    stems = {_LAST_NUMBER.sub("#", n) for n in rest}
    numbers = [_number(n) for n in names]
    if len(names) < 2 or len(stems) != 1 or len(set(numbers)) < len(names):
        return None
    stem = stems.pop()
    begun = [n.removesuffix(_INIT) for n in names if n.endswith(_INIT)]
    same = all(stem.startswith(n) for n in begun)
    return sorted(numbers) if same and _OF_STEP.search(stem) else None


def _number(name: str) -> float:
    if name.endswith(_INIT):
        return 0.0
    found = _LAST_NUMBER.search(name)
    return float(found.group()) if found else float("nan")
