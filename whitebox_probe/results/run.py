"""Where a result comes from: all that its numbers depend on, and how they were computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.gate import Unfit, expect, gate
from whitebox_probe._core.lines import short, shown
from whitebox_probe.results import _schema
from whitebox_probe.results.table import SETTINGS, no_value

FORMAT = 2
QR = "+qr"
"""Follows the name of a basis whose U_k were orthonormalised."""
LISTS = ("conventions", "bases", "orthonormal", "prenorm", "class_token", "eps", "lam", "null")
"""Settings that a run may have several values of."""
NOT_COMPARED = frozenset({"execution", "seconds", "created", "versions", "null_line"})
"""Fields that no number depends on beyond rounding: they do not tell two runs apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(Mapping[str, Any]):
    """What a result's numbers depend on, and where, when and by what they were computed.

    It reads like a mapping too: `run["model"]` is the field; `run["eps"]`, `run["convention"]`,
    `run["seed"]`, `run["device"]` and the like are looked up in `settings` and `execution`, one
    value alone and several as a list; `run["basis"]` ends in `+qr` where it was orthonormalised;
    `run["arguments"]` is both of them together. Two runs are equal if their numbers depend on the
    same things: `execution`, `seconds`, `created` and `versions` do not count.

    Attributes:
        model: name in tables. family, checkpoint (name, sha256, and `initial_of`: the model that
            was trained from an initialisation), network (arch, constants).
        preprocess: how inputs were prepared; None where they came prepared, or it is unknown.
        data: name, fingerprint, limit. count: samples.
        layers, dim, heads, dim_head: L, d, K, p. tokens: n as measured, with those before the
            patches unless no row keeps them. prefix: how many those are.
        settings: lists of `conventions`, `bases`, `orthonormal`, `prenorm`, `class_token`, `eps`,
            `lam`, `null`; names of `metrics`; `sites`, `seed`, `dtype`, `fast`, `nonfinite`, `fit`.
        bounds: metric -> its smallest and largest value possible: a pair, or a list of mappings
            with `low`, `high` and the settings that they hold for.
        measures: row of the table -> label, unit, group, bases, better, metric.
        matrices: key of `Result.matrices` -> its `name` and settings.
        nonfinite: samples that were dropped. thresholds, labels: those used, if any.
        execution: batch_size, device, processes. seconds, created, versions.
        null_of: the model that this is a null of, "" for none. null_line: its line in figures.
    """

    model: str
    layers: int
    dim: int
    heads: int
    dim_head: int
    tokens: int
    count: int
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    family: str = ""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] | None = None
    prefix: int = 0
    bounds: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    matrices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nonfinite: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] | None = None
    execution: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    null_of: str = ""
    null_line: Any = None

    def __post_init__(self) -> None:
        """Keep plain values of our own, so that a saved run is the run that was made."""
        for name in _FIELDS:
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        _expect_kinds(vars(self), "a run", "Change a copy of a run that wp.probe made")
        told = {k: _listed(v) if k in LISTS else v for k, v in self.settings.items()}
        object.__setattr__(self, "settings", told)
        object.__setattr__(self, "null_line", _tuples(self.null_line))

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Run":
        """The run that `to_dict` wrote, or a run.json from before it had a format.

        Raises: ResultError for a format, a field or a lack of one that this version cannot read.
        """
        if isinstance(mapping, Run):
            return mapping
        from whitebox_probe.results.old import run_of_first_format

        old = "format" not in mapping and "settings" not in mapping
        try:
            with gate():
                kept = run_of_first_format(mapping) if old else dict(mapping)
        except Unfit as why:
            raise ResultError(
                "run.json is of no version that is known", str(why), "Probe again"
            ) from why
        if kept.pop("format", FORMAT) != FORMAT:
            raise ResultError(
                f"a run of format {shown(mapping['format'])} cannot be read",
                f"this version reads formats 1 and {FORMAT}",
                "Install a newer whitebox-probe",
            )
        unknown = sorted(set(kept) - set(_FIELDS))
        missing = sorted(_REQUIRED - set(kept))
        if unknown or missing:
            names = ", ".join(map(shown, unknown or missing))
            raise ResultError(
                f"run.json {'holds unknown keys' if unknown else 'lacks keys'}: {names}",
                "another version wrote it, or it was edited",
                "Read it with the version that wrote it, or probe again",
            )
        _expect_kinds(kept)
        try:
            expect(_schema.RUN, {name: _plain(value, name) for name, value in kept.items()})
        except Unfit as why:
            raise ResultError(
                "run.json does not follow its schema", str(why), "Probe again"
            ) from why
        return cls(**kept)

    def parameters(self, metric: str) -> dict[str, Any]:
        """What a measure was taken with that the table has no column for, such as its `tau`."""
        told = ("metric", "site", *SETTINGS, "kind")
        taken = [m for m in self.settings.get("measurements", ()) if m.get("metric") == metric]
        return {key: value for each in taken for key, value in each.items() if key not in told}

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them, with the format that `of` reads."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in _FIELDS}

    def __getitem__(self, key: str) -> Any:
        if key in _FIELDS:
            return getattr(self, key)
        if key == "arguments":
            return {**self.settings, **self.execution, "limit": self.data.get("limit")}
        if key == "basis" and "bases" in self.settings:
            return _one(self.basis_labels)
        name = "conventions" if key == "convention" else key
        for part in (self.settings, self.execution):
            if name in part:
                return _one(part[name]) if name in LISTS else part[name]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        """Fields, then what settings and execution hold."""
        told = [*self.settings, *self.execution]
        words = {"conventions": "convention", "bases": "basis"}
        return iter(dict.fromkeys([*_FIELDS, *(words.get(k, k) for k in told), "arguments"]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        names = [name for name in _FIELDS if name not in NOT_COMPARED]
        return all(same(getattr(self, name), getattr(other, name)) for name in names)

    def __repr__(self) -> str:
        """One line: the model, the data, and how many samples; the fields hold the rest."""
        data = short(str(self.data.get("name", "")))
        return f"Run('{short(self.model)}', data='{data}', samples={self.count})"

    def __hash__(self) -> NoReturn:
        raise TypeError("a Run is compared by content and has no hash: use run.model as a key")

    @property
    def basis_labels(self) -> list[str]:
        """The bases as the table names them: those of orthonormal U_k end in `+qr`."""
        several = self.settings.get("orthonormal") or [False]
        bases = self.settings.get("bases", [])
        bases = [basis for basis in bases if basis is not None]
        return [f"{basis}{QR}" if qr else basis for basis in bases for qr in several]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """n, d, K, p: what nats grow with."""
        return self.tokens, self.dim, self.heads, self.dim_head

    @property
    def class_token_counts(self) -> bool:
        """Whether `class_token` changes a number: there are tokens before the patches, or not."""
        return self.prefix > 0

    @property
    def tokens_change(self) -> bool:
        """Whether layers hold different numbers of tokens: rates, which grow with them, differ."""
        return bool(self.network.get("tokens_change"))

    def tokens_of(self, class_token: Any = None) -> int:
        """N of rows with or without the tokens before the patches."""
        dropped = not no_value(class_token) and not class_token
        kept = True in self.settings.get("class_token", ())
        return self.tokens - (self.prefix if dropped and kept else 0)

    def bound(self, metric: str, where: Mapping[Any, Any]) -> tuple[float, float] | None:
        """The smallest and largest value that a metric can take with these settings, if known."""
        told = self.bounds.get(metric, [])
        if not told or isinstance(told[0], int | float):
            # A pair is of the one official setting of the run: no other convention has bounds.
            official = where.get("convention", "official") in ("official", "")
            return (float(told[0]), float(told[1])) if told and official else None
        for each in told:
            names = [n for n in each if n in SETTINGS and not no_value(where.get(n))]
            if all(same(each[name], where[name]) for name in names):
                return float(each["low"]), float(each["high"])
        return None

    def narrowed(self, where: Mapping[str, Any], matrices: Mapping[str, Any]) -> "Run":
        """The run with only these values of its settings (lists), and these matrices."""
        told = dict(self.settings)
        words = {"convention": "conventions"}
        for name, values in where.items():
            if name == "basis":
                told["bases"] = list(dict.fromkeys(v.removesuffix(QR) for v in values))
                told["orthonormal"] = list(dict.fromkeys(v.endswith(QR) for v in values))
            else:
                told[words.get(name, name)] = values
        tokens = self.tokens
        if where.get("class_token") == [False]:
            tokens = self.tokens_of(class_token=False)
        return replace(self, settings=told, matrices=matrices, tokens=tokens)


_FIELDS = tuple(f.name for f in fields(Run))
_REQUIRED = frozenset(
    f.name for f in fields(Run) if f.default is MISSING and f.default_factory is MISSING
)


def _kinds() -> dict[str, tuple[type, ...]]:
    """Field -> what it may be."""
    found = {}
    for each in fields(Run):
        if each.type is Any:
            continue
        parts = get_args(each.type) if isinstance(each.type, UnionType) else (each.type,)
        kinds = tuple(get_origin(part) or part for part in parts)
        found[each.name] = kinds + ((int,) if float in kinds else ())
    return found


_KINDS = _kinds()


def _expect_kinds(
    kept: Mapping[str, Any], of: str = "run.json", fix: str = "It was edited: probe again"
) -> None:
    """Check that each field of a run is of its kind.

    Raises: ResultError.
    """
    for name, kinds in _KINDS.items():
        value = kept.get(name)
        if name in kept and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise ResultError(
                f"'{name}' of {of} is a {type(value).__name__}",
                f"it is to be a {kinds[0].__name__}",
                fix,
            )
    for name in ("measures", "matrices"):
        if not all(isinstance(value, Mapping) for value in kept.get(name, {}).values()):
            raise ResultError(
                f"'{name}' of {of} does not describe each by a mapping",
                "what is read of each stands in it",
                fix,
            )


def same(one: Any, other: Any) -> bool:
    """Equality of plain values in which NaN equals NaN."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


def _one(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _listed(value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    return [None if each == "" else each for each in values]


def _plain(value: Any, where: str) -> Any:
    """The value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, where) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, str):  # a number of NumPy's
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{where} of a run is a {type(value).__name__}, which run.json cannot hold")


def _tuples(value: Any) -> Any:
    """Lists as tuples: dashes of a line, as Matplotlib takes them."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value
