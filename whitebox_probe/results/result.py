"""The result of a probe: a tidy table, per-sample values, matrices, and where they came from."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core.arguments import expect, expect_each, optional, text, whole
from whitebox_probe._core.errors import MissingDependency, ResultError
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.lines import names, short, shown
from whitebox_probe.results import printed, summary
from whitebox_probe.results.folder import Read, as_folder, read_sealed, save_sealed
from whitebox_probe.results.held import (
    copied,
    hold,
    read_only,
    same_array,
    same_arrays,
    uncopied,
)
from whitebox_probe.results.old import table_of_first_format
from whitebox_probe.results.plain import (
    expect_matrices,
    plain_identities,
    plain_samples,
    plain_table,
)
from whitebox_probe.results.reading import (
    expect_frame,
    expect_samples,
    read_frame,
    read_matrices,
)
from whitebox_probe.results.run import Run, same
from whitebox_probe.results.table import (
    SETTINGS,
    completed,
    depends_on,
    keys_of,
    matching,
    no_value,
    not_measured,
    setting,
    several_values,
    values_of,
    with_settings,
    written,
)
from whitebox_probe.results.writing import Writer, as_csv, as_parquet
from whitebox_probe.stats import Trend, by_content, trend

TABLE, SAMPLES, MATRICES, RUN = "table", "samples.parquet", "matrices.npz", "run.json"
IDENTITY = "identity"
UNITS = ("nats", "rad", "bits", "patches")
"""Units that are said in print; the others are ranges and shares, which the numbers show."""
NEEDED = ("layer", "site", "metric", "mean")
"""Columns without which a table says nothing; what else one lacks has no value."""
_FIX = "Pass a folder that `whitebox-probe run --out` or Result.save wrote"


@copied("frame", "samples", "matrices", "identities")
@dataclass(frozen=True, eq=False)
class Result:
    """What `probe` measured on one model and one data set.

    Results are equal if their tables, samples, matrices and runs are; when, where and by which
    versions they were computed does not count. They have no hash.

    Attributes:
        frame: one row for each layer, site, metric and setting, with the columns of `COLUMNS`.
        samples: one row a sample (index: its number in the data set), one column a measure, named
            by `keys_of(frame)`: `l0@z_out:3`, `compression[eps=0.5]@z_half:3`.
        matrices: name -> array over layers, such as `coherence` (L, K, K); `run.matrices` tells
            with which settings each was taken.
        run: what the numbers depend on, and how they were computed.
        identities: what tells each sample apart, 64 bits of a hash of its content, by its number;
            None in results of an older version.

    Tables and matrices are copies, new ones at each access: name one to work on it (`frame =
    result.frame`); matrices are read-only, and copied one by one as they are asked for. What is
    done to either does not change the result.
    """

    frame: pd.DataFrame
    samples: pd.DataFrame
    matrices: Mapping[str, np.ndarray]
    run: Run
    identities: pd.Series | None = None

    def __post_init__(self) -> None:
        """Take a run that is a plain mapping as a `Run`, and tables in the form of our own.

        Raises: ResultError for what no result can hold.
        """
        object.__setattr__(self, "run", Run.of(self.run))
        for name in ("samples", "frame", "matrices", "identities"):
            held = uncopied(self, name)
            try:
                if (own := self._plain(name, held)) is not held:
                    hold(self, name, own)
            except Unfit as why:
                raise ResultError(
                    f"no Result can be made of this '{name}'",
                    str(why),
                    "Change a copy of what a result holds, or make it as wp.probe does",
                ) from why

    def _plain(self, name: str, held: Any) -> Any:
        """What a field is to hold, or the same if that is in form."""
        if name == "frame":
            own = plain_table(held, NEEDED)
            return completed(own, uncopied(self, "samples"), self.run.model)
        if name == "samples":
            return plain_samples(held)
        if name == "matrices":
            expect_matrices(held)
        elif held is not None:
            return plain_identities(held, uncopied(self, "samples"))
        return held

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        tables = (
            uncopied(self, name).equals(uncopied(other, name)) for name in ("frame", "samples")
        )
        matrices = (uncopied(each, "matrices") for each in (self, other))
        return all(tables) and self.run == other.run and same_arrays(*matrices)

    def __hash__(self) -> NoReturn:
        raise TypeError("a Result is compared by content and has no hash: use result.model as key")

    def __repr__(self) -> str:
        """One line: the model, the data, and how much there is of what."""
        measures = uncopied(self, "frame")["metric"].nunique()
        samples = len(uncopied(self, "samples"))
        data = short(str(self.run.data.get("name", "")))
        return (
            f"Result('{short(self.model)}', data='{data}', "
            f"samples={samples}, layers={self.run.layers}, measures={measures})"
        )

    @property
    def model(self) -> str:
        """The model's name in tables and figures."""
        return self.run.model

    def curve(self, metric: str, site: str | None = None, **where: Any) -> pd.DataFrame:
        """The rows of one metric, in the order of the layers.

        Args: where: settings that tell one curve from others: `basis`, `convention`, `prenorm`,
            `class_token`, `eps`, `lam`, `null` (of the model's own tokens when not given).

        Raises: ResultError when it was not measured, or several curves are left.
        """
        return self._one(metric, site, where).reset_index(drop=True)

    def _one(self, metric: str, site: str | None, where: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of one curve, as the frame numbers them."""
        expect("metric", metric, text, "it is a name in the table")
        expect("site", site, optional(text), "it is a name in the table")
        rows = self._rows(metric, site, where)
        told = several_values(rows)
        if told:
            names = " and ".join("sites" if name == "site" else name for name in told)
            raise ResultError(
                f"'{metric}' was measured {'at' if 'site' in told else 'with'} several {names}",
                "one curve has one of each",
                f"Name one with {_each(told)}",
            )
        return rows.sort_values("layer")

    def _rows(self, metric: str, site: str | None, where: Mapping[str, Any]) -> pd.DataFrame:
        frame = uncopied(self, "frame")
        mine = frame[frame["metric"] == metric]
        wanted = _values(where)
        rows = mine[matching(mine, wanted)]
        if "null" in rows and "null" not in where and (rows["null"] == "").any():
            rows = rows[rows["null"] == ""]
        if site is not None:
            rows = rows[rows["site"] == site]
        lacking = any(
            len(values) > 1 and depends_on(mine, name) and not_measured(mine, name, values)
            for name, values in wanted.items()
        )
        if not rows.empty and not lacking:
            return rows
        asked = ", ".join(f"{n}={' or '.join(map(written, v))}" for n, v in wanted.items())
        what = f"'{metric}'{f' at {site}' if site else ''}{f' with {asked}' if asked else ''}"
        have = sorted(set(frame["metric"] + "@" + frame["site"]))
        if not mine.empty and where:
            have = [f"{metric} with {_told(row)}" for row in _distinct(mine)]
        raise ResultError(
            f"{what} is not in the result of {self.model}",
            "it was not measured",
            f"Use one of: {', '.join(have)}",
        )

    def values(self, metric: str, site: str | None = None, **where: Any) -> np.ndarray:
        """Per-sample values of one metric, (samples, layers), in layers' order; a read-only copy.

        Raises: ResultError as `curve` does, and for a measure that has no value a sample.
        """
        names = list(self.keys(metric).loc[self._one(metric, site, where).index])
        samples = uncopied(self, "samples")  # may be large, and asked for often
        if not set(names) <= set(samples.columns):
            raise ResultError(
                f"'{metric}' has no value a sample",
                "it is read from weights, or from all samples together",
                "Use curve() for its numbers",
            )
        return read_only(samples[names])

    def keys(self, metric: str | None = None) -> pd.Series:
        """The column of `samples` that belongs to each row of the frame, or of one metric."""
        expect("metric", metric, optional(text), "it is a name in the table")
        frame = uncopied(self, "frame")
        return keys_of(frame if metric is None else frame[frame["metric"] == metric])

    def contents(self, samples: Sequence[int] | None = None) -> np.ndarray | None:
        """What tells samples apart, (N,), all of the result or those named; None if not known.

        Args: samples: numbers of the data set, as the index of `samples` has them.
        Raises: ResultError for one that was not measured.
        """
        known, held = uncopied(self, "identities"), uncopied(self, "samples").index
        if samples is None:
            return None if known is None else known.loc[held].to_numpy(copy=True)
        wanted = expect_each("samples", samples, whole(0), "samples are named by their numbers")
        if unknown := [number for number in wanted if number not in held]:
            raise ResultError(
                f"the result of {self.model} holds no sample {unknown[0]}",
                "it was not drawn from the data",
                f"Use some of: {names(list(map(str, held)))}",
            )
        return None if known is None else known.loc[wanted].to_numpy(copy=True)

    def trend(self, metric: str, site: str | None = None, **where: Any) -> Trend:
        """How a metric goes with depth: Spearman's rho and its p, the change, and its steps.

        Raises: ResultError as `values` does, and for fewer than two layers or samples.
        """
        values = by_content(self.values(metric, site, **where), self.contents())
        if min(values.shape) < 2:
            raise ResultError(
                f"'{metric}' of {self.model} has no trend",
                f"there are {values.shape[0]} samples and {values.shape[1]} layers",
                "Probe two samples or more of a model with two layers or more",
            )
        return trend(values, seed=int(self.run["seed"]))

    def matrix(self, name: str, **where: Any) -> np.ndarray:
        """The matrices of one name over the layers, a read-only copy, with settings as for `curve`.

        Raises: ResultError when there are none, or several.
        """
        expect("name", name, text, "matrices have names")
        told = {
            key: dict(self.run.matrices.get(key, {"name": key}))
            for key in sorted(uncopied(self, "matrices"))
        }
        mine = {key: place for key, place in told.items() if place.get("name", key) == name}
        frame = pd.DataFrame(list(mine.values()), index=pd.Index(list(mine), dtype=object))
        if "null" not in where and "null" in frame and (frame["null"] == "").any():
            where = {**where, "null": ""}  # the model's own, as of a curve
        found = list(frame.index[matching(frame, where)]) if mine else []
        if len(found) != 1:
            several = several_values(frame.loc[found]) if found else {}
            raise ResultError(
                f"{len(found) or 'no'} matrices '{name}' of {self.model} are as asked",
                f"they differ in {', '.join(several)}"
                if found
                else f"the result holds: {', '.join(sorted(self.matrices)) or 'none'}",
                f"Name one with {_each(several)}" if found else "Name one of those",
            )
        return read_only(uncopied(self, "matrices")[found[0]])

    def select(self, **where: Any) -> "Result":
        """The part with these settings: each one value, or several in a list.

        Rows that do not depend on a setting stay. Samples and matrices are named anew, by what
        still varies.

        Raises: ResultError when nothing is left.
        """
        wanted = _values(where)
        frame, samples = uncopied(self, "frame"), uncopied(self, "samples")
        rows = frame[matching(frame, wanted)]
        if rows.empty or any(not v or not_measured(frame, n, v) for n, v in wanted.items()):
            asked = ", ".join(f"{n}={' or '.join(map(written, v))}" for n, v in wanted.items())
            raise ResultError(
                f"nothing in the result of {self.model} has {asked}",
                "it was not measured so",
                f"It holds: {'; '.join(map(_told, _distinct(frame)))}",
            )
        keys = self.keys().loc[rows.index]
        rows = rows.reset_index(drop=True)
        names = {old: new for old, new in zip(keys, keys_of(rows), strict=True)}
        kept = [column for column in samples.columns if column in names]
        matrices, places = self._selected_matrices(wanted)
        left = {n: [v for v in pd.unique(setting(rows, n)) if not no_value(v)] for n in wanted}
        left |= {"null": list(pd.unique(setting(rows, "null")))} if "null" in wanted else {}
        narrow = {name: values for name, values in left.items() if values}
        return Result(
            frame=rows,
            samples=samples[kept].rename(columns=names),
            matrices=matrices,
            run=self.run.narrowed(narrow, places),
            identities=uncopied(self, "identities"),
        )

    def _selected_matrices(
        self, where: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        found = []
        for key, array in uncopied(self, "matrices").items():
            place = dict(self.run.matrices.get(key, {}))
            if matching(pd.DataFrame([place], index=[0]), where).all():
                found.append((place.pop("name", key), place, array))
        return named_matrices(found)

    def changes(self) -> pd.DataFrame:
        """First layer, last layer and the change between them, a row a measure and setting."""
        return summary.changes(self)

    def to_latex(self, *, metrics: Sequence[str] | None = None, caption: str | None = None) -> str:
        r"""A booktabs table: first layer, last layer and change of each measure, with intervals.

        Numbers stand in `\num{}` of siunitx, with the digits that their intervals let them have.

        Args: metrics: only these. caption: of a floating table; a bare tabular without one.
        """
        return printed.latex(summary.HEADER, self._printed(metrics), caption=caption)

    def to_markdown(self, *, metrics: Sequence[str] | None = None) -> str:
        """The same table as `to_latex`, in Markdown."""
        return printed.markdown(summary.HEADER, self._printed(metrics))

    def _printed(self, metrics: Sequence[str] | None) -> list[Sequence[printed.Cell]]:
        return summary.with_units(summary.rows_of([self], metrics), units_of(self))

    def _repr_html_(self) -> str:
        from whitebox_probe.results.pages import of_result

        return of_result(self)

    def save(self, folder: str | Path) -> Path:
        """Write table.parquet, table.csv, samples.parquet, matrices.npz and run.json.

        Over an older result too: a save that is cut off leaves the old one, the new one, or none.
        table.csv is for other programs; `load` does not read it.

        Returns: the folder.
        Raises: ResultError, before anything is replaced, for what `load` would refuse.
        """
        _check_parquet()
        frame, matrices = uncopied(self, "frame"), uncopied(self, "matrices")
        writers: dict[str, Writer] = {
            f"{TABLE}.csv": as_csv(frame),
            f"{TABLE}.parquet": as_parquet(frame),
            SAMPLES: as_parquet(self._with_identities()),
            MATRICES: lambda path: np.savez_compressed(path, **matrices),
        }
        return save_sealed(
            as_folder(folder),
            writers,
            RUN,
            self.run.to_dict(),
            free=[f"{TABLE}.csv"],
            check=self._expect_same,
        )

    def _expect_same(self, folder: Path) -> None:
        """Check that a folder holds this result, a part at a time.

        Raises: Unfit; ResultError as `load` does.
        """
        _read(folder, self._expect_in)

    def _expect_in(self, saved: "_Saved") -> None:
        fits = {RUN: same(self.run.to_dict(), saved.run.to_dict())}
        fits[MATRICES] = _same_matrices(uncopied(self, "matrices"), saved.matrices())
        frame, samples, known = saved.tables()
        fits[f"{TABLE}.parquet"] = same_table(with_settings(uncopied(self, "frame")), frame)
        mine, theirs = ([] if c is None else c.tolist() for c in (self.contents(), known))
        fits[SAMPLES] = same_table(uncopied(self, "samples"), samples) and mine == theirs
        if other := [name for name, fit in fits.items() if not fit]:
            tables = {
                f"{TABLE}.parquet": (with_settings(self.frame), frame),
                SAMPLES: (self.samples, samples),
            }
            told = _not_kept(*tables[other[0]]) if other[0] in tables else ""
            raise Unfit(f"{other[0]} does not keep all that was to stand in it{told}")

    def _with_identities(self) -> pd.DataFrame:
        """The samples as they are saved: what tells them apart is one more column."""
        samples, known = uncopied(self, "samples"), uncopied(self, "identities")
        return samples if known is None else samples.assign(**{IDENTITY: known})

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read what `save` wrote, in this or the first format.

        Raises: ResultError when the folder holds no whole result.
        """

        def read(saved: "_Saved") -> "Result":
            matrices = dict(saved.matrices())
            frame, samples, known = saved.tables()
            return cls(frame, samples, matrices, saved.run, known)

        return _read(as_folder(folder), read)


class _Saved:
    """The parts of a saved result, each read when it is asked for.

    Args: whole: what its seal holds.
    Raises: ResultError, in each method, for a part that cannot be read.
    """

    def __init__(self, folder: Path, whole: Mapping[str, Any]) -> None:
        self._folder, self._whole = folder, whole
        self.run = Run.of(whole)

    def matrices(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each matrix by its key: none is kept here."""
        with self._reading(MATRICES):
            yield from read_matrices(self._folder / MATRICES, self.run)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, "pd.Series[Any] | None"]:
        """The table, the samples, and what tells them apart."""
        with self._reading(f"{TABLE}.parquet"):
            frame = read_frame(self._folder / f"{TABLE}.parquet")
        with self._reading(SAMPLES):
            samples = read_frame(self._folder / SAMPLES)
            known = samples.pop(IDENTITY) if IDENTITY in samples else None
        with self._reading(f"{TABLE}.parquet"):
            if "format" not in self._whole:
                frame, samples = table_of_first_format(frame, samples, self._whole)
            frame = with_settings(frame)
            expect_frame(frame, self.run)
        with self._reading(SAMPLES):
            expect_samples(samples, known, frame, self.run)
        return frame, samples, known

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            with gate():
                yield
        except Unfit as why:
            raise ResultError(
                f"the result in {self._folder} cannot be read",
                f"{name}: {why}",
                "Run the probe again",
            ) from why


def _read(folder: Path, read: Callable[[_Saved], Read]) -> Read:
    """What is made of a folder's result.

    Raises: ResultError when the folder holds no whole result.
    """
    _check_parquet()
    needed = (f"{TABLE}.parquet", SAMPLES, MATRICES)
    return read_sealed(
        folder,
        RUN,
        lambda whole: read(_Saved(folder, whole)),
        what="result",
        fix=_FIX,
        needed=needed,
    )


def named_matrices(
    found: Sequence[tuple[str, Mapping[str, Any], np.ndarray]],
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """`Result.matrices` and `Run.matrices` from (name, settings, array over layers) of each.

    A key is the name, with the settings that vary among the matrices of that name.

    >>> arrays, places = named_matrices([("overlap", {"basis": b}, np.eye(2)) for b in ("q", "k")])
    >>> list(arrays), places["overlap[basis=k]"]
    (['overlap[basis=q]', 'overlap[basis=k]'], {'name': 'overlap', 'basis': 'k'})
    """
    matrices, places = {}, {}
    for name, where, array in found:
        others = [place for other, place, _ in found if other == name]
        several = [s for s in ("site", *SETTINGS) if len({written(o.get(s)) for o in others}) > 1]
        told = [f"{s}={written(where.get(s))}" for s in several if not no_value(where.get(s))]
        key = f"{name}[{','.join(told)}]" if told else name
        matrices[key], places[key] = array, {"name": name, **where}
    return matrices, places


def units_of(result: Result) -> dict[str, str]:
    """Unit of each measure that a result says one of."""
    told = result.run.measures.items()
    return {name: str(each["unit"]) for name, each in told if each.get("unit") in UNITS}


def _same_matrices(held: Mapping[str, np.ndarray], read: Iterable[tuple[str, np.ndarray]]) -> bool:
    """Whether what is read are the same arrays, each of which is let go before the next."""
    found = {key: key in held and same_array(held[key], array) for key, array in read}
    return found.keys() == held.keys() and all(found.values())


def same_table(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables hold the same under the same names, be their types as they may."""
    if one.equals(other):
        return True
    try:
        pd.testing.assert_frame_equal(
            one,
            other,
            check_dtype=False,
            check_index_type=False,
            check_column_type=False,
            check_exact=True,
        )
    except AssertionError:
        return False
    return True


def _not_kept(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """The first column of a table that another does not hold as it is, for a message."""
    for name in one:
        if name not in other or not same_table(one[[name]], other[[name]]):
            return f", such as its column '{shown(name)}'"
    return ""


def _values(where: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What each setting is asked to be, as lists; matching refuses what is no setting."""
    return {n: values_of(n, v) if n in SETTINGS else [v] for n, v in where.items()}


def _each(told: Mapping[str, Sequence[str]]) -> str:
    """Settings with their values, as keywords."""
    return "; ".join(f"{name}={', '.join(values)}" for name, values in told.items())


def _distinct(rows: pd.DataFrame) -> list[dict[Hashable, Any]]:
    columns = [name for name in SETTINGS if name in rows]
    return rows[columns].drop_duplicates().to_dict("records")


def _told(settings: Mapping[Any, Any]) -> str:
    return ", ".join(f"{k}={written(v)}" for k, v in settings.items() if not no_value(v))


def _check_parquet() -> None:
    try:
        import pyarrow  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependency(
            "pyarrow is missing", "results are kept as parquet", "Run: pip install pyarrow"
        ) from error
