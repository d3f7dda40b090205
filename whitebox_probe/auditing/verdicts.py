"""Verdicts on models: what they are called, and their tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core.digits import Number
from whitebox_probe._core.errors import ResultError, SettingError, nearest
from whitebox_probe._core.gate import Unfit, expect, gate
from whitebox_probe._core.lines import names
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.results import printed
from whitebox_probe.results.folder import as_folder, read_sealed, save_sealed
from whitebox_probe.results.held import copied
from whitebox_probe.results.result import Result
from whitebox_probe.results.writing import as_csv
from whitebox_probe.stats import hierarchical_interval

SUPPORTED, NOT_SUPPORTED, CONTRADICTED = "supported", "not supported", "contradicted"
NOT_APPLICABLE, DEPENDS = "not applicable", "depends on"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, CONTRADICTED, NOT_APPLICABLE, DEPENDS)
TABLES = ("verdicts", "robustness", "parts", "curves")
_PRINTED = ("claim", "model", "effect", "unit", "verdict")
SEAL = "audit.json"
_FIX = "Make it with: whitebox-probe audit MODEL --out DIR, or wp.audit"
_NUMBERS = (
    "value", "ci_low", "ci_high", "p", "p_holm", "compared", "null_mean", "null_low", "null_high",
    "null_p", "mean", "null_least", "null_most",
)  # fmt: skip
_ROWS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {key: {"type": ["number", "null"]} for key in _NUMBERS}
        | {key: {"type": "integer", "minimum": 0} for key in ("layer", "samples", "null_draws")}
        | {key: {"type": "boolean"} for key in ("agrees", "counts")}
        | {key: {"type": "string"} for key in ("claim", "model", "verdict", "part", "setting")},
        "additionalProperties": {"type": ["string", "null"]},
    },
}
_NAMES = {"type": "array", "items": {"type": "string"}}
_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}
_PERHAPS = {"type": ["object", "null"]}
_TOLD_OF_A_RULE = (
    "about", "claim", "keeps its meaning under", "loses its meaning under", "rule", "statistic",
    "unit",
)  # fmt: skip
_RULE = {
    "type": "object",
    "properties": dict.fromkeys(_TOLD_OF_A_RULE, _TEXT),
    "required": list(_TOLD_OF_A_RULE),
}
_JUDGED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "family": _TEXT,
        "checkpoint": {
            "type": "object",
            "properties": {key: {"type": ["string", "null"]} for key in ("name", "sha256")},
        },
        "network": {"type": "object", "properties": {"arch": _PERHAPS}},
        "preprocess": _PERHAPS,
        "nulls": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}
_SETTINGS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "first_layer": {"type": "integer", "minimum": 1},
        "count": {"type": "object", "additionalProperties": {"type": "integer"}},
        "data": {
            "type": "object",
            "properties": {
                "name": _TEXT,
                "fingerprint": {"type": ["string", "null"]},
                "limit": {"type": ["integer", "null"]},
            },
        },
        "models": {"type": "object", "additionalProperties": _JUDGED},
    },
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "thresholds": _OBJECT,
        "settings": _SETTINGS,
        "rules": {"type": "object", "additionalProperties": _RULE},
        "columns": {
            "type": "object",
            "properties": dict.fromkeys(TABLES, _NAMES),
            "required": list(TABLES),
        },
        **dict.fromkeys(TABLES, _ROWS),
    },
    "required": ["thresholds", "columns", *TABLES],
}
# The tables are for other programs: what is read again stands, to the last digit, in the seal.


def file_of(table: str) -> str:
    """The file of a table of an audit."""
    return "audit.csv" if table == "verdicts" else f"audit-{table}.csv"


@copied("frame", "robustness", "parts", "curves")
@dataclass(frozen=True, eq=False)
class Audit:
    """Verdicts on models. Its tables are copies, as those of a `Result` are.

    Attributes:
        frame: one row a model and claim. `value` with `ci_low` and `ci_high` is its effect, in
            `unit`; `p` of no effect, `p_holm` the same corrected over the claims of the model;
            `compared` what of the value has to be beyond random weights;
            `null_low` and `null_high` the 95% prediction interval of one more draw of random
            weights, corrected over the claims as well, `null_p` the value's rank among the draws,
            and `beyond_null` whether it lies outside, on the side of its effect; `robust` which
            other setting overturns it, if any; `verdict`, and `reason`.
        robustness: the same effect under each other setting, and whether it agrees.
        parts: other numbers of each effect, by name.
        curves: the measure behind each claim against depth, with the least and most of the draws.
        thresholds: that the verdicts used. settings: that the numbers used, by name.
        rules: claim -> what it says, what is compared with what, and when it is supported.
        results, nulls: model -> Result, or Results; empty for an audit that was read from disk.
    """

    frame: pd.DataFrame
    robustness: pd.DataFrame
    parts: pd.DataFrame
    curves: pd.DataFrame
    thresholds: Thresholds
    settings: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    nulls: Mapping[str, tuple[Result, ...]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """By tables, thresholds and settings."""
        if not isinstance(other, Audit):
            return NotImplemented
        mine, theirs = (
            (each.thresholds, json.dumps(each.settings, sort_keys=True, default=str))
            for each in (self, other)
        )
        pairs = zip(self._tables().values(), other._tables().values(), strict=True)
        return mine == theirs and all(one.equals(two) for one, two in pairs)

    def __hash__(self) -> NoReturn:
        raise TypeError("an Audit is compared by content and has no hash")

    def __repr__(self) -> str:
        """One line: the models, and how many claims have which verdict."""
        told = ", ".join(f"{n} {verdict}" for verdict, n in self._counts().items())
        return f"Audit({names(list(dict.fromkeys(self.frame['model'])))}: {told})"

    def _counts(self) -> dict[str, int]:
        """How many claims have which verdict, in the order of `VERDICTS`."""
        found = {kind: 0 for kind in VERDICTS}
        for verdict in self.frame["verdict"]:
            found[next(kind for kind in VERDICTS if verdict.startswith(kind))] += 1
        return {kind: n for kind, n in found.items() if n}

    def _tables(self) -> dict[str, pd.DataFrame]:
        every = (self.frame, self.robustness, self.parts, self.curves)
        return dict(zip(TABLES, every, strict=True))

    def save(self, folder: str | Path) -> Path:
        """Write audit.csv, audit-robustness.csv, audit-parts.csv, audit-curves.csv, audit.json.

        Returns: the folder.
        Raises: ResultError, before anything is replaced, for what `load` would refuse.
        """
        tables = self._tables()
        whole = {
            "thresholds": asdict(self.thresholds),
            "settings": dict(self.settings),
            "rules": {name: dict(rule) for name, rule in self.rules.items()},
            "columns": {name: list(table) for name, table in tables.items()},
        } | {name: _records(table) for name, table in tables.items()}
        writers = {file_of(name): as_csv(table) for name, table in tables.items()}
        free = list(writers)
        return save_sealed(as_folder(folder), writers, SEAL, whole, free=free, check=Audit.load)

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """Read what `save` wrote; the results behind it are saved and loaded by themselves.

        Raises: ResultError when the folder holds no whole audit, or one of an older version, whose
        verdicts were given by other rules.
        """
        folder = as_folder(folder)
        return read_sealed(
            folder, SEAL, lambda whole: cls._read(folder, whole), what="audit", fix=_FIX
        )

    @classmethod
    def _read(cls, folder: Path, whole: dict[str, Any]) -> "Audit":
        if "robustness" not in whole:
            raise ResultError(
                f"the audit in {folder} cannot be read",
                "an older version made it, by rules that networks of known truth overturned",
                "Audit the models again",
            )
        try:
            expect(_SCHEMA, whole)
            with gate():
                thresholds = Thresholds(**whole["thresholds"])
                frame, robustness, parts, curves = (
                    _frame(whole[name], whole["columns"][name]) for name in TABLES
                )
                if not all(str(verdict).startswith(VERDICTS) for verdict in frame["verdict"]):
                    raise Unfit("it holds verdicts that are not known")
        except (Unfit, SettingError) as why:
            raise ResultError(f"the audit in {folder} cannot be read", str(why), _FIX) from why
        settings, rules = (dict(whole.get(name, {})) for name in ("settings", "rules"))
        return cls(frame, robustness, parts, curves, thresholds, settings, rules)

    def table(self) -> pd.DataFrame:
        """One row a claim, one column a model: the verdict, and the effect with its interval."""
        told = self.frame.assign(told=[_told(row) for row in self.frame.to_dict("records")])
        order = list(dict.fromkeys(told["claim"]))
        wide = told.pivot(index="claim", columns="model", values="told").loc[order]
        return wide[list(dict.fromkeys(told["model"]))]

    def together(self) -> pd.DataFrame:
        """Of each claim the mean effect over models, as of one recipe's seeds, and its interval.

        The models are what was drawn anew: see `hierarchical_interval`. Those of which a claim has
        no effect are left out.

        Returns: one row a claim that two models or more have: claim, unit, models, mean, ci_low,
            ci_high, and of how many models it is supported, and contradicted.
        """
        rows = []
        for claim, of in self.frame.groupby("claim", sort=False):
            found = of[of["value"].notna()]
            if len(found) < 2:
                continue
            low, high = hierarchical_interval([np.array([v]) for v in found["value"]])
            rows.append(
                {
                    "claim": claim,
                    "unit": found["unit"].iloc[0],
                    "models": len(found),
                    "mean": float(found["value"].mean()),
                    "ci_low": low,
                    "ci_high": high,
                    SUPPORTED: int((found["verdict"] == SUPPORTED).sum()),
                    CONTRADICTED: int((found["verdict"] == CONTRADICTED).sum()),
                }
            )
        columns = ["claim", "unit", "models", "mean", "ci_low", "ci_high", SUPPORTED, CONTRADICTED]
        return pd.DataFrame(rows, columns=columns)

    def sentences(self) -> list[str]:
        """One plain sentence a model and claim: the verdict, and what it rests on."""
        return [
            f"{row['model']}, {row['text']}: {row['verdict']}. {row['sentence']}"
            + (f" ({row['reason']})" if row["reason"] else "")
            for row in self.frame.to_dict("records")
        ]

    def explain(self, claim: str) -> str:
        """What was compared with what for a claim, and what came out, in lines of text.

        Raises: ResultError for a claim that was not judged.
        """
        if claim not in self.rules:
            raise ResultError(
                f"'{claim}' was not judged", "no claim has that name", nearest(claim, self.rules)
            )
        from whitebox_probe.auditing.explain import explained

        return explained(self, claim)

    def _repr_html_(self) -> str:
        from whitebox_probe.auditing.page import of_audit

        return of_audit(self, self._counts())

    def to_latex(self, *, caption: str | None = None) -> str:
        r"""The verdicts for a paper (booktabs, numbers in `\num{}` of siunitx), a row a claim and
        model.

        Args: caption: of a floating table; a bare tabular without one.
        """
        return printed.latex(_PRINTED, self._printed(), caption=caption)

    def to_markdown(self) -> str:
        """The same table as `to_latex`, in Markdown."""
        return printed.markdown(_PRINTED, self._printed())

    def _printed(self) -> list[Sequence[printed.Cell]]:
        order = list(dict.fromkeys(self.frame["claim"]))
        rows = sorted(self.frame.to_dict("records"), key=lambda row: order.index(row["claim"]))
        return [
            [
                row["claim"],
                row["model"],
                effect(row),
                "" if _none(row) else row["unit"],
                worded(row),
            ]
            for row in rows
        ]


def _told(row: Mapping[Any, Any]) -> str:
    """The verdict, with the effect and its interval where there is one."""
    if _none(row):
        return str(row["verdict"])
    return f"{worded(row)}: {effect(row)}"


def effect(row: Mapping[Any, Any]) -> Number:
    """The effect of a row with its interval."""
    return Number(float(row["value"]), float(row["ci_low"]), float(row["ci_high"]))


def _none(row: Mapping[Any, Any]) -> bool:
    return bool(np.isnan(row["value"]))


def worded(row: Mapping[Any, Any]) -> str:
    """The verdict of a row, with what it rests on where the word alone would say too much."""
    verdict = str(row["verdict"])
    if verdict == SUPPORTED and not row.get("null", True):
        return f"{verdict} (against no random weights)"
    if verdict.startswith(DEPENDS):
        return f"{verdict} (else {str(row['reason']).partition(' as usual')[0]})"
    return verdict


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them, NaN as null."""
    rows = frame.to_dict("records")
    return [{str(k): None if v != v else v for k, v in row.items()} for row in rows]


def _frame(records: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """What `_records` was made of.

    Raises: Unfit for a row that lacks a value.
    """
    if any(set(row) != set(columns) for row in records):
        raise Unfit("a row of it has other columns than its table")
    return tabulated(records, columns)


def tabulated(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A table of an audit: its numbers are of one type also where it has no rows, or no values."""
    frame = pd.DataFrame(rows, columns=columns)
    for name in frame.columns:
        if name in _NUMBERS:
            frame[name] = frame[name].astype("float64")
    return frame
