"""What is measured: each measure at each place, with all that its number depends on.

`planned` turns what a user asks for (names, measures, `Request`s) and the settings of the call into
`Measurement`s, checked against the model before any pass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from itertools import product
from typing import Any

from whitebox_probe._core import discover
from whitebox_probe._core.arguments import bounded, expect, expect_each, mapping, text
from whitebox_probe._core.errors import BasisError, MissingDependency, ProbeError, nearest
from whitebox_probe.metrics.catalogue import catalogue, measure_named
from whitebox_probe.metrics.measure import (
    DatasetMeasure,
    Measure,
    SampleMeasure,
    TokenMeasure,
    WeightMeasure,
)
from whitebox_probe.metrics.tokens import HEADS, MEAN
from whitebox_probe.models.model import ProbeModel, read_once
from whitebox_probe.probing import null as nulls
from whitebox_probe.probing.settings import SEVERAL, Settings, several
from whitebox_probe.sites import is_residual

FITTED = ("pca", "pca:clusters")
FREE = ("qk", *FITTED, "random")
"""Bases that no weights hold: those fitted to tokens, and the others."""
WEIGHTS = "weights"
"""Where the measures of subspaces are in the table."""


@dataclass(frozen=True)
class BasisKey:
    """Which subspaces: a basis by name, orthonormalised or not, or the null in its place."""

    name: str
    orthonormal: bool = False
    null: str | None = None

    @property
    def label(self) -> str:
        """What the table calls it."""
        return f"{self.name}+qr" if self.orthonormal else self.name


@dataclass(frozen=True)
class Measurement:
    """One measure at one site, with everything that its number depends on.

    Attributes:
        measure: with its parameters, such as eps, lam and the convention.
        site: as the table has it. place: as the measure names it (`HEADS`: the basis' own site).
        basis: the subspaces, where it uses any. prenorm, class_token: None where no number depends
            on them.
        null: what stands in for something of the model, if anything does.
        needs: the sites that are recorded for it. layers: those that have what it needs.
    """

    measure: Measure
    site: str
    place: str
    basis: BasisKey | None
    prenorm: bool | None
    class_token: bool | None
    null: str | None
    needs: frozenset[str]
    layers: frozenset[int]

    @property
    def per_sample(self) -> bool:
        """Whether it gives a value a sample, which has a column in the table."""
        return isinstance(self.measure, SampleMeasure)

    @property
    def look(self) -> "Look":
        """How it looks at tokens."""
        stands_in = self.null is not None and nulls.null_named(self.null).replaces == "tokens"
        return Look(self.null if stands_in else None, self.class_token is not False)

    def row(self) -> dict[str, Any]:
        """What its rows in the table say of it, besides metric, layer and numbers."""
        of = self.measure.parameters()
        return {
            "site": self.site,
            "basis": self.basis.label if self.basis is not None else "",
            "convention": of.get("convention", ""),
            "prenorm": self.prenorm,
            "class_token": self.class_token,
            "eps": of.get("eps", float("nan")),
            "lam": of.get("lam", float("nan")),
            "null": self.null or "",
        }

    def told(self) -> dict[str, Any]:
        """It in plain values, for run.json and for what a resumed run must share."""
        return {"metric": self.measure.name, **self.row(), **self.own(), "kind": self.kind}

    def own(self) -> dict[str, Any]:
        """Parameters of its measure that the table has no column for."""
        row = self.row()
        return {k: v for k, v in self.measure.parameters().items() if k not in row}

    @property
    def kind(self) -> str:
        """Where its measure is defined."""
        return f"{type(self.measure).__module__}.{type(self.measure).__name__}"


@dataclass(frozen=True)
class Look:
    """How tokens are looked at: as they are, or a null of them; with those before the patches."""

    null: str | None
    class_token: bool


@dataclass(frozen=True, kw_only=True)
class Request:
    """A measure that is asked for with settings of its own, in place of the call's.

    Attributes: metric: a name, or a measure; None for all that are on by default. The others as for
        `probe`, None for the call's own.
    """

    metric: str | Measure | None = field(default=None, kw_only=False)
    site: str | Sequence[str] | None = None
    convention: str | Sequence[str] | None = None
    basis: str | Sequence[str] | None = None
    orthonormal: bool | Sequence[bool] | None = None
    prenorm: bool | Sequence[bool] | None = None
    class_token: bool | Sequence[bool] | None = None
    eps: float | Sequence[float] | None = None
    lam: float | Sequence[float] | None = None
    null: str | Sequence[str | None] | None = None

    def over(self, settings: Settings) -> Settings:
        """The call's settings with its own in their place."""
        own = {name: getattr(self, name) for name in SEVERAL if getattr(self, name) is not None}
        return settings if not own else Settings.of(**{**_fields(settings), **own})


def _fields(settings: Settings) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


@dataclass(frozen=True)
class Plan:
    """All measurements of a pass: `tokens` are taken while it runs, `weights` before it."""

    tokens: tuple[Measurement, ...]
    weights: tuple[Measurement, ...]

    def __iter__(self) -> Iterator[Measurement]:
        """All of them."""
        yield from (*self.tokens, *self.weights)

    @property
    def sites(self) -> list[str]:
        """The sites that are recorded, sorted."""
        return sorted({site for m in self.tokens for site in m.needs})

    @property
    def bases(self) -> list[BasisKey]:
        """The subspaces that are used, each once."""
        return list(dict.fromkeys(m.basis for m in self if m.basis is not None))

    def places(self) -> dict[str, list[str]]:
        """Metric -> the sites at which it is taken."""
        found: dict[str, dict[str, None]] = {}
        for m in self.tokens:
            found.setdefault(m.measure.name, {})[m.site] = None
        return {name: list(sites) for name, sites in found.items()}

    @property
    def precisions(self) -> int:
        """With how many eps the same measure is taken, at most."""
        eps: dict[str, set[float]] = {}
        for m in self.tokens:
            if "eps" in m.measure.parameters():
                eps.setdefault(m.measure.name, set()).add(m.measure.parameters()["eps"])
        return max((len(each) for each in eps.values()), default=1)

    @property
    def needs_labels(self) -> bool:
        """Whether classes of the samples are used."""
        return any(isinstance(m.measure, DatasetMeasure) and m.measure.needs_labels for m in self)


Wanted = str | Measure | Request


@read_once()
def planned(
    model: ProbeModel,
    wanted: Wanted | Sequence[Wanted] | None,
    settings: Settings,
    sites: Mapping[str, str | Sequence[str]] | None,
) -> Plan:
    """Every measurement, checked against the model.

    Args: wanted: names, measures (or metrics made of one) and requests; None for all measures that
        are on by default. sites: metric -> where it is taken, in place of its convention's site.
    Raises: SiteError, BasisError; ProbeError for an unknown measure, one that is named twice, sites
        of one that is not measured, or parts of the layers that the model does not have.
    """
    sites = expect(
        "sites", {} if sites is None else sites, mapping, "it says where metrics are taken"
    )
    requests = [_request(each) for each in _listed(wanted)]
    for name in dict.fromkeys(b for each in requests for b in each.over(settings).basis):
        if name is not None and name != model.default_basis:
            expect_basis(model, name)  # of measures that use none too: run.json tells it
    found: dict[Measurement, None] = {}
    asked = set(sites)
    explicit: set[tuple[Any, ...]] = set()
    for request in requests:
        its = request.over(settings)
        for measure in _measures(request, its):
            asked.discard(measure.name)
            expect_packages(measure)
            place = request.site or sites.get(measure.name)
            for each in _of(model, measure, place, its):
                found[each] = None
            key = (measure, its, str(place))
            if request.metric is not None and key in explicit:
                raise ProbeError(
                    f"metric '{measure.name}' is named twice",
                    "its rows could not be told apart",
                    "Name it once",
                )
            explicit.add(key)
    if asked:
        raise ProbeError(
            f"sites name {', '.join(sorted(asked))}",
            "that metric is not measured in this run",
            "Name only metrics of the run",
        )
    if not found:
        raise ProbeError(
            "no metric is named",
            "there is nothing to measure",
            f"Name some of: {', '.join(catalogue())}",
        )
    _expect_told_apart(found)
    of_weights = [m for m in found if isinstance(m.measure, WeightMeasure)]
    return Plan(tuple(m for m in found if m not in set(of_weights)), tuple(of_weights))


def _expect_told_apart(found: Iterable[Measurement]) -> None:
    """Check that each measure has one value of what the table has no column for.

    Raises: ProbeError.
    """
    known: dict[str, Mapping[str, Any]] = {}
    for each in found:
        name, own = each.measure.name, each.own()
        other = known.setdefault(name, own)
        if own != other:
            differ = next(key for key in own if own[key] != other.get(key))
            raise ProbeError(
                f"metric '{name}' is named with {differ} {other.get(differ)} and {own[differ]}",
                "its rows could not be told apart: the table has no such column",
                "Name it once, and probe again for the other",
            )


def expect_basis(model: ProbeModel, basis: str) -> None:
    """Check that a model can have a basis of that name.

    Raises: BasisError.
    """
    known = [*model.bases, *(b for b in FREE if b != "qk" or "qkv:q" in model.bases)]
    if basis not in known:
        raise BasisError(
            f"basis '{basis}' is not in family '{model.anatomy.name}'",
            "its attention has no such projection",
            nearest(basis, known),
        )


def expect_packages(measure: Measure | type[Measure]) -> None:
    """Check that what a measure imports is installed; nothing is imported.

    Raises: MissingDependency.
    """
    for module, how in measure.needs_packages.items():
        if find_spec(module) is None:
            raise MissingDependency(
                f"metric '{measure.name}' needs the package {module}",
                "it is not installed",
                f"Run: {how}; or leave that metric out",
            )


def _listed(wanted: Wanted | Sequence[Wanted] | None) -> list[Any]:
    if wanted is None:
        return [Request()]
    alone = isinstance(wanted, str | Measure | Request) or hasattr(wanted, "definition")
    return [wanted] if alone or not isinstance(wanted, Sequence) else bounded("metrics", wanted)


def _made(wanted: Any) -> Any:
    """What was asked for; of a class its measure's name, which takes the settings of the call."""
    if not isinstance(wanted, type):
        return wanted
    kind = getattr(wanted, "kind", wanted)  # of a torchmetrics class made of a measure
    if not discover.is_class_of(kind, Measure):
        return wanted
    return kind.name if catalogue().get(kind.name) is kind else kind()


def _request(wanted: Any) -> Request:
    wanted = _made(wanted)
    if isinstance(wanted, Request):
        inner = _made(getattr(wanted.metric, "definition", wanted.metric))
        return replace(wanted, metric=inner)
    measure = getattr(wanted, "definition", wanted)  # of a torchmetrics module made of a measure
    if not isinstance(measure, str | Measure):
        raise ProbeError(
            f"a metric is a {type(wanted).__name__}",
            "names, measures and the classes of wp.metrics are measured",
            f"Name one, such as '{next(iter(catalogue()))}'",
        )
    return Request(metric=measure)


def _measures(request: Request, settings: Settings) -> Iterator[Measure]:
    """The measures of a request, with each value of the parameters that they have."""
    if isinstance(request.metric, Measure):
        own = [n for n in ("eps", "lam", "convention") if getattr(request, n) is not None]
        if own:
            raise ProbeError(
                f"the request of '{request.metric.name}' names {own[0]}",
                "a metric object has its own",
                "Request it by its name, or give the object another value",
            )
        yield request.metric
        return
    if request.metric is not None:
        kinds = [measure_named(request.metric)]
    else:
        kinds = [kind for kind in catalogue().values() if kind.default]
    for kind in kinds:
        options: dict[str, Sequence[Any]] = {
            name: getattr(settings, name) for name in ("eps", "lam") if kind.takes(name)
        }
        if issubclass(kind, TokenMeasure):
            options["convention"] = _conventions(kind, settings, named=request.metric is not None)
        for values in product(*options.values()):
            yield kind(**dict(zip(options, values, strict=True)))


def _conventions(kind: type[TokenMeasure], settings: Settings, *, named: bool) -> Sequence[str]:
    """The conventions that a measure has; lacking one is an error if no other is asked for."""
    having = [c for c in settings.convention if c in kind.site]
    return having if having or not named else settings.convention


def _of(
    model: ProbeModel, measure: Measure, place: str | Sequence[str] | None, settings: Settings
) -> Iterator[Measurement]:
    """A measure under each of the settings that it depends on."""
    for kind in settings.null:
        for basis in _bases(model, measure, settings, kind):
            if not isinstance(measure, TokenMeasure):
                yield Measurement(
                    measure, WEIGHTS, WEIGHTS, basis, None, None, kind, frozenset(),
                    frozenset(range(1, model.layers + 1)),
                )  # fmt: skip
                continue
            layers = _layers_of(measure, model)
            usual = _usual_place(measure, model)
            places = [usual] if place is None else several(place, "site")
            expect_each("site", places, text, "it names where a metric is taken")
            for where, with_class in product(places, settings.class_token):
                _expect_class_token(model, measure, kept=with_class)
                known = _site(model, where, basis)
                needs = frozenset(_needed(model, each, basis) for each in measure.inputs(where))
                for norm in _norms(measure, where, settings):
                    yield Measurement(
                        measure, known, where, basis, norm, with_class, kind, needs, layers
                    )


def _bases(
    model: ProbeModel, measure: Measure, settings: Settings, kind: str | None
) -> Iterator[BasisKey | None]:
    """The subspaces under which a measure is taken; None alone for one that uses none."""
    uses_heads = isinstance(measure, TokenMeasure) and HEADS in {
        each for place in measure.site.values() for each in measure.inputs(place)
    }
    if not measure.needs_basis and not uses_heads:
        yield None
        return
    replaces = kind is not None and nulls.null_named(kind).replaces == "subspaces"
    for name, orthonormal in product(settings.basis, settings.orthonormal):
        known = name or model.default_basis
        yield BasisKey(known, orthonormal, kind if replaces else None)


def _norms(measure: TokenMeasure, place: str, settings: Settings) -> Sequence[bool | None]:
    """Whether the attention norm is applied first; None where the measure never applies it."""
    if not (measure.uses_norm and is_residual(place)):
        return (None,)
    if measure.convention == "paper":
        return settings.prenorm
    # The release projects what the norm gives, and nothing else: there is no other choice.
    return (True,) if measure.official_norm else (None,)


def _usual_place(measure: TokenMeasure, model: ProbeModel) -> str:
    """The convention's, unless the measure is of a code that this model has at its own site."""
    code = measure.code_site
    return code if code is not None and code in model.sites else measure.site[measure.convention]


def heads_site(model: ProbeModel, basis: BasisKey | None) -> str | None:
    """The site where the model itself projects to these subspaces; None where it does not."""
    own = basis is not None and not basis.orthonormal and basis.null is None
    return model.heads_site(basis.name) if own and basis is not None else None


def _site(model: ProbeModel, place: str, basis: BasisKey | None) -> str:
    """A place as the table has it."""
    return (heads_site(model, basis) or "heads") if place == HEADS else place


def _needed(model: ProbeModel, place: str, basis: BasisKey | None) -> str:
    """The site that is recorded for a place.

    Raises: SiteError for one that the model does not have.
    """
    site = (heads_site(model, basis) or "attn_in") if place == HEADS else place
    model.tap(site, 1)
    return site


def _expect_class_token(model: ProbeModel, measure: TokenMeasure, *, kept: bool) -> None:
    """Check that there is a class token where a measure looks at it.

    Raises: ProbeError.
    """
    there = model.class_index is not None
    if measure.needs_class_token and not (there and kept):
        raise ProbeError(
            f"metric '{measure.name}' cannot be taken of {model.name}",
            "class_token=False leaves the class token out" if there else "it has no class token",
            "Leave that metric out" + (", or measure with the class token" if there else ""),
        )


def _layers_of(measure: TokenMeasure, model: ProbeModel) -> frozenset[int]:
    """The layers whose steps have the parts that a measure needs: a decoder's may lack them."""
    every: Iterable[int] = range(1, model.layers + 1)
    needed = measure.needs_operators
    if measure.attends_first:
        exempt = {n: model.layer(n).exempt for n in every}
        every = [n for n in every if "norm_before_attention" not in exempt[n]]
    if not needed:
        return frozenset(every)
    having = {n: model.layer(n).operators for n in every}
    found = frozenset(n for n, parts in having.items() if set(needed) <= set(parts))
    if not found:
        lacking = [name for name in needed if all(name not in parts for parts in having.values())]
        why = f"its layers have no {', '.join(lacking)}: their second step is not a proximal one"
        fix = "Leave it out for this model"
        if MEAN in needed:
            why = "the mean update over samples is not known before the pass"
            fix = "Use audit, which measures it first"
        raise ProbeError(f"metric '{measure.name}' cannot be taken of {model.name}", why, fix)
    return found
