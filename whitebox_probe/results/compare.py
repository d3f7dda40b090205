"""Results side by side, and their differences sample by sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core import arguments
from whitebox_probe._core.errors import ResultError, expect_names_differ, nearest
from whitebox_probe._core.gate import Unfit, expect, gate
from whitebox_probe._core.lines import names, shown
from whitebox_probe._core.process import as_found
from whitebox_probe.results import _schema, kinds, pairing, printed, summary
from whitebox_probe.results.folder import as_folder, read_sealed, save_sealed
from whitebox_probe.results.forms import FORMS, in_nats, normal_form, scale
from whitebox_probe.results.held import copied, hold, uncopied
from whitebox_probe.results.pairing import HEADS, Pair
from whitebox_probe.results.plain import plain_table
from whitebox_probe.results.reading import expect_columns, expect_depths, expect_sizes
from whitebox_probe.results.result import NEEDED, Result, units_of
from whitebox_probe.results.table import SETTINGS, read_table
from whitebox_probe.results.writing import as_csv
from whitebox_probe.stats import by_content, effect_size, holm, interpolate, paired_ps, summarise

SEAL = "comparison.json"
FILES = {"frame": "comparison.csv", "differences": "differences.csv"}
_LATER: dict[str, dict[str, Any]] = {
    "frame": {"note": ""},
    "differences": {"p": math.nan, "p_holm": math.nan},
}
"""Columns that sealed tables of older versions lack, and what stands there instead."""
_PLACE = ("layer", "site", "metric")
_KEYS = {
    "frame": ["model", *_PLACE, *SETTINGS],
    # Without the basis: each model of a pair has its own.
    "differences": ["first", "second", *_PLACE, "first_basis", "second_basis", *SETTINGS[1:]],
}
_NEEDED = {
    "frame": ("model", *NEEDED, "count", "relative_depth", "mean_per_token", "mean_per_entry"),
    "differences": tuple(kinds.COLUMNS[FILES["differences"]][-1]),
}
"""Columns without which neither a figure nor a report can be made of a table."""
_FIX = "Pass a folder that `whitebox-probe compare --out` or Comparison.save wrote"
MUST_AGREE = {
    "convention": "convention",
    "eps": "coding precision",
    "lam": "weight of a non-zero entry (lam)",
    "prenorm": "treatment of norms (prenorm)",
    "class_token": "treatment of the class token",
}
"""What two results must share for their nats to mean the same -> what an error calls it."""


@copied("frame", "differences")
@dataclass(frozen=True, eq=False)
class Comparison:
    """Results side by side.

    Comparisons are equal if their frames and notes are. They have no hash. Tables are copies, as
    those of a `Result` are.

    Attributes:
        frame: all rows, with `relative_depth` (layer / number of layers) and, for nats, the value
            per token, per entry, and its position between the bounds of the official convention.
        differences: for each pair of models on the same samples and each measure that both have
            with the same settings: mean difference (second minus first), std, sem, 95% interval,
            effect size, p (two-sided, by Student's t), p corrected over all rows of the pair
            (Holm) and count at each layer, or at each relative depth where the models differ in
            depth. `form` says what nats of models of different sizes were divided by;
            `first_basis` and `second_basis` which U each used.
        notes: what else differs that a number may depend on, one line each.
        units: of measures that have one; it does not count for equality.
    """

    frame: pd.DataFrame
    differences: pd.DataFrame
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take tables in the form of our own.

        Raises: ResultError for what no comparison can hold.
        """
        try:
            tables = {name: uncopied(self, name) for name in FILES}
            made = _expect_whole(tables, {name: f"'{name}'" for name in FILES})
        except Unfit as why:
            told = "Change a copy of what a comparison holds, or make it by wp.compare"
            raise ResultError("no Comparison can be made of these", str(why), told) from why
        for name, own in made.items():
            if own is not tables[name]:
                hold(self, name, own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparison):
            return NotImplemented
        return (
            self.frame.equals(other.frame)
            and self.differences.equals(other.differences)
            and self.notes == other.notes
        )

    def __hash__(self) -> NoReturn:
        raise TypeError("a Comparison is compared by content and has no hash: use names as key")

    def to_latex(self, *, metrics: Sequence[str] | None = None, caption: str | None = None) -> str:
        r"""A booktabs table: first layer, last layer and change of each measure and model.

        Numbers stand in `\num{}` of siunitx. Rows named `second - first` are the
        paired differences, with their intervals.

        Args: metrics: only these. caption: of a floating table; a bare tabular without one.
        """
        return printed.latex(summary.HEADER, self._printed(metrics), caption=caption)

    def to_markdown(self, *, metrics: Sequence[str] | None = None) -> str:
        """The same table as `to_latex`, in Markdown."""
        return printed.markdown(summary.HEADER, self._printed(metrics))

    def _printed(self, metrics: Sequence[str] | None) -> list[Sequence[printed.Cell]]:
        return summary.with_units(self._rows(metrics), self.units)

    def _rows(self, metrics: Sequence[str] | None = None) -> list[tuple[printed.Cell, ...]]:
        return summary.rows_of_comparison(self.frame, self.differences, metrics)

    def __repr__(self) -> str:
        """One line: the models, and how many measures were paired over how many samples."""
        told = names(list(dict.fromkeys(self.frame["model"])))
        paired = self.differences
        samples = int(paired["count"].max()) if len(paired) else 0
        return f"Comparison({told}: {paired['metric'].nunique()} measures, {samples} samples)"

    def _repr_html_(self) -> str:
        from whitebox_probe.results.pages import of_comparison

        return of_comparison(self)

    def save(self, folder: str | Path) -> Path:
        """Write comparison.csv, differences.csv and comparison.json; returns the folder.

        Raises: ResultError, before anything is replaced, for what `load` would refuse.
        """
        frames = {name: getattr(self, attribute) for attribute, name in FILES.items()}
        writers = {name: as_csv(frame) for name, frame in frames.items()}
        whole = {"format": 1, "notes": list(self.notes), "units": dict(self.units)}
        return save_sealed(as_folder(folder), writers, SEAL, whole, check=Comparison.load)

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read what `save` wrote.

        Raises: ResultError when the folder holds no whole comparison.
        """
        folder = as_folder(folder)
        needed = list(FILES.values())
        return read_sealed(
            folder,
            SEAL,
            lambda whole: cls._read(folder, whole),
            what="comparison",
            fix=_FIX,
            needed=needed,
        )

    @classmethod
    def _read(cls, folder: Path, whole: dict[str, Any]) -> "Comparison":
        try:
            expect(_schema.COMPARISON, whole)
            frames = {attribute: _read_whole(folder, attribute) for attribute in FILES}
            frames = _expect_whole(frames, FILES)
            pairs = frames["differences"][["first", "second"]]
            if absent := sorted({*pairs["first"], *pairs["second"]} - {*frames["frame"]["model"]}):
                told = f"the rows of {shown(absent[0])}, which {FILES['differences']} is of"
                raise Unfit(f"{FILES['frame']}: it lacks {told}")
        except Unfit as why:
            raise ResultError(f"the comparison in {folder} cannot be read", str(why), _FIX) from why
        return cls(**frames, notes=tuple(whole.get("notes", ())), units=whole.get("units", {}))


def _read_whole(folder: Path, attribute: str) -> pd.DataFrame:
    """One table of a saved comparison, with every column of today's, and each row once.

    Differences have no rows where nothing could be paired.

    Raises: Unfit.
    """
    name, later = FILES[attribute], _LATER[attribute]
    try:
        with gate():
            frame = read_table(folder / name)
            if not any(column in frame for column in later):
                frame = frame.assign(**later)
            expect_columns(frame, kinds.COLUMNS[name][-1], some=attribute == "frame")
            # Two sites of one model may both be paired with the heads of another, as one site.
            alone = frame if attribute == "frame" else frame[frame["site"] != HEADS]
            if (twice := alone.duplicated(_KEYS[attribute])).any():
                first = alone[twice].iloc[0]
                told = f"'{shown(first['metric'])}' at {shown(first['site'])}"
                raise Unfit(f"a row is in it twice, of {told} and layer {first['layer']}")
    except Unfit as why:
        raise Unfit(f"{name}: {why}") from why
    return frame


def _expect_whole(
    tables: Mapping[str, pd.DataFrame], called: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """Both tables in the form of our own, once what a report reads of them is seen to be there.

    Args: called: attribute -> what an error calls its table.
    Raises: Unfit.
    """
    made = {name: _whole(name, table, called[name]) for name, table in tables.items()}
    pairs = made["differences"][["first", "second"]]
    if (pairs["first"] == pairs["second"]).any():
        raise Unfit(f"{called['differences']}: a model is paired with itself")
    return made


def _whole(attribute: str, table: pd.DataFrame, called: str) -> pd.DataFrame:
    """Raises: Unfit."""
    try:
        own = plain_table(table, _NEEDED[attribute])
        if attribute == "frame":
            expect_columns(own, ())
            expect_sizes(own)
        expect_depths(own, ["model"] if attribute == "frame" else ["first", "second"])
    except Unfit as why:
        raise Unfit(f"{called}: {why}") from why
    return own


@as_found()
def compare(results: Sequence[Result], *, form: str | None = None, seed: int = 0) -> Comparison:
    """Align results by layer and relative depth, and pair models sample by sample.

    Rows are paired that were taken with the same settings, at the same site (a ViT's `heads_k` is
    what `heads` is in a CRATE), setting by setting. Of two families each may use its own
    projections as the basis. Models of different depth are paired at the relative depths of the
    shallower one, the deeper one's samples being interpolated linearly between its layers.

    Args: form: what rates are divided by before they are subtracted (`FORMS`, but not null_share);
        when not given, nothing for models of the same sizes and `per_token` for others.
    Raises: ResultError for fewer than two results, the same model twice, results on different
        data, or a measure that two results took with different settings only.
    """
    alone = isinstance(results, Result | str) or not arguments.is_row(results)
    given: list[Any] = [results] if alone else arguments.bounded("results", results)
    for each in given:
        if not isinstance(each, Result):
            raise ResultError(
                f"a {type(each).__name__} cannot be compared",
                "results are set side by side",
                "Pass what wp.probe gives, or Result.load of a folder",
            )
    results = given
    seed = arguments.expect("seed", seed, *arguments.SEED)
    if len(results) < 2:
        raise ResultError(
            f"{len(results)} result cannot be compared",
            "a comparison takes two or more",
            "Pass several results",
        )
    expect_names_differ([r.model for r in results])
    forms = [name for name in FORMS if name != "null_share"]
    if form is not None and arguments.one_of(*forms)(form):
        raise ResultError(
            f"results cannot be compared in the form '{form}'",
            "it says what rates are divided by before they are subtracted",
            nearest(str(form), forms),
        )
    if form is None and len({r.run.sizes for r in results}) > 1:
        form = "per_token"
    couples = [(one, two) for i, one in enumerate(results) for two in results[i + 1 :]]
    for one, two in couples:
        pairing.expect_same_data(one, two)
    notes: dict[str, None] = {}
    differences = []
    for one, two in couples:
        pairs = pairing.pairs_of(one, two)
        notes |= dict.fromkeys(pairing.notes_of(one.run, two.run, pairs))
        differences.append(_paired(one, two, pairs, form=form, seed=seed))
    return Comparison(
        frame=pd.concat([_aligned(result) for result in results], ignore_index=True),
        differences=pd.concat(differences, ignore_index=True),
        notes=tuple(notes),
        units={name: unit for result in results for name, unit in units_of(result).items()},
    )


def _aligned(result: Result) -> pd.DataFrame:
    frame = result.frame
    frame["relative_depth"] = frame["layer"] / result.run.layers
    for each in ("per_token", "per_entry", "position"):
        frame[f"mean_{each}"] = _formed(result, each)
    return frame


def _formed(result: Result, form: str) -> pd.Series:
    """The means of rates in a form; NaN for all else."""
    frame = uncopied(result, "frame")
    out = pd.Series(float("nan"), index=frame.index)
    if result.run.tokens_change:
        return out
    for metric, rows in frame.groupby("metric", sort=False):
        if not in_nats(result, str(metric)):
            continue
        if form == "position":
            known = [result.run.bound(str(metric), row) for row in rows.to_dict("records")]
            rows = rows[[pair is not None for pair in known]]
        if len(rows):
            out[rows.index] = normal_form(result, str(metric), form)(rows)["mean"]
    return out


def _paired(
    first: Result, second: Result, pairs: Sequence[Pair], *, form: str | None, seed: int
) -> pd.DataFrame:
    """Sample-by-sample differences, second minus first, for the measures that both have."""
    if pairs and not any(pair.sampled for pair in pairs):
        told = names(list(dict.fromkeys(pair.metric for pair in pairs)))
        raise ResultError(
            f"{first.model} and {second.model} share {told} alone",
            "differences are taken sample by sample, and that has no value a sample",
            "Probe both with a measure of samples too, such as l0",
        )
    here, there = (uncopied(result, "samples").index for result in (first, second))
    shared = here.intersection(there)
    contents = first.contents(shared.tolist())
    if len(shared) < 2:
        raise ResultError(
            f"{first.model} and {second.model} share {len(shared)} samples",
            "a paired difference needs two or more",
            "Probe both with the same limit and seed",
        )
    shallow = min(first.run.layers, second.run.layers)
    sampled = [pair for pair in pairs if pair.sampled]
    places = [_shared_depths(first, second, pair, shallow) for pair in sampled]
    if not any(map(len, places)):
        raise ResultError(
            f"{first.model} and {second.model} share no measure at the same place",
            "their metrics, sites or layers differ",
            "Probe both with the same metrics",
        )
    _expect_same_tokens(first, second, sampled)
    parts = []
    for pair, layers in zip(sampled, places, strict=True):
        used = form if _can_take(form, first, second, pair) else None
        values = [
            _on_grid(result, rows, layers / shallow, pair.metric, used, shared)
            for result, rows in ((first, pair.first), (second, pair.second))
        ]
        about = {"first": first.model, "second": second.model, **pair.place}
        about |= {"layer": layers, "relative_depth": layers / shallow, "form": used or ""}
        parts.append(pd.DataFrame(about | _statistics(values[1] - values[0], contents, seed)))
    whole = pd.concat(parts, ignore_index=True)
    whole["p_holm"] = holm(whole["p"].to_numpy())
    return whole.astype({c: pair.first[c].dtype for c in pair.place if c in pair.first})


def _statistics(differences: np.ndarray, contents: np.ndarray | None, seed: int) -> dict[str, Any]:
    found = summarise(differences, seed=seed, contents=contents)
    return {
        "difference": found.mean,
        "std": found.std,
        "sem": found.sem,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "effect_size": effect_size(differences),
        "p": paired_ps(by_content(differences, contents)),
        "count": found.count,
    }


def _expect_same_tokens(first: Result, second: Result, pairs: Sequence[Pair]) -> None:
    """Raises: ResultError for rates of layers that hold different numbers of tokens.

    Of two models that both drop tokens, it is not known whether they do at the same layers.
    """
    changing = [each for each in (first, second) if each.run.tokens_change]
    rates = [pair.metric for pair in pairs if in_nats(first, pair.metric)]
    if changing and rates:
        raise ResultError(
            f"'{rates[0]}' of {first.model} and {second.model} cannot be compared",
            f"the layers of {changing[0].model} hold different numbers of tokens, and rates grow "
            "with them",
            "Probe both with measures that do not, such as l0",
        )


def _can_take(form: str | None, first: Result, second: Result, pair: Pair) -> bool:
    if form is None or not in_nats(first, pair.metric):
        return False
    return form != "position" or all(
        result.run.bound(pair.metric, rows.iloc[0].to_dict()) is not None
        for result, rows in ((first, pair.first), (second, pair.second))
    )


def _shared_depths(first: Result, second: Result, pair: Pair, shallow: int) -> np.ndarray:
    """The layers of the shallower model at whose relative depth both have a measure.

    A measure that only some layers have is not continued to the others.
    """
    layers = np.arange(1, shallow + 1)
    for result, rows in ((first, pair.first), (second, pair.second)):
        depth = layers / shallow * result.run.layers
        low, high = rows["layer"].min(), rows["layer"].max()
        # Down to the first depth of all, which a deeper model has no layer before.
        low = low if low > 1 else 0
        layers = layers[(depth >= low - 1e-9) & (depth <= high + 1e-9)]
    return layers


def _on_grid(
    result: Result,
    rows: pd.DataFrame,
    grid: np.ndarray,
    metric: str,
    form: str | None,
    shared: pd.Index,
) -> np.ndarray:
    """Values (samples, depths) at the relative depths of a grid."""
    whole = uncopied(result, "samples").loc[shared, list(rows["key"])].to_numpy()
    low, size = scale(result.run, metric, form, rows)
    whole = (whole - low) / size
    depth = rows["layer"].to_numpy() / result.run.layers
    if np.array_equal(depth, grid):
        return whole
    return interpolate(depth, whole, grid)
