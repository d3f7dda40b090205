"""What a model family tells the rest of the package, and the model that a user holds.

A family is one file in this folder with one `Family` subclass, or a subclass that another installed
package names under the entry-point group `whitebox_probe.families`; `families()` finds both. It
says how to build the network, where each site is (`taps`), and which bases of subspaces it has.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from whitebox_probe._core import discover
from whitebox_probe._core.errors import (
    BasisError,
    CheckpointError,
    PluginError,
    ProbeError,
    SiteError,
    nearest,
)
from whitebox_probe.models import families as rooms
from whitebox_probe.sites import SITES

if TYPE_CHECKING:
    from whitebox_probe.checkpoints import Checkpoint


@dataclass(frozen=True)
class Tap:
    """Where a site's tensor passes: the input or output of a module, and how it is reshaped.

    Attributes:
        keywords: names of keyword arguments of the call that `transform` is given too, None for
            those the call does not have; only on the input side.
    """

    module: str
    side: Literal["input", "output"]
    transform: Callable[..., Tensor] | None = None
    keywords: tuple[str, ...] = ()

    def read(self, args: Any, last: Any) -> Tensor:
        """The site's tensor, detached, from what a hook is given.

        Args: args: positional arguments of the module's call. last: its output, or its keyword
            arguments on the input side.
        Raises: SiteError where no tensor passes.
        """
        given = last if self.side == "output" else (args or tuple(last.values()))
        while isinstance(given, tuple | list) and given:  # blocks of some libraries return tuples
            given = given[0]
        if not isinstance(given, Tensor):
            empty = isinstance(given, tuple | list)
            raise SiteError(
                f"the {self.side} of module '{self.module}' is no tensor",
                "it is empty" if empty else f"it is a {type(given).__name__}",
                "Read the site from a module that takes or returns the tokens themselves",
            )
        with torch.no_grad():
            tensor = given.detach()
            more = {name: last.get(name) for name in self.keywords}
            return tensor if self.transform is None else self.transform(tensor, **more)


@dataclass(frozen=True)
class Dims:
    """Sizes of a model: layers L, width d, heads K, head width p, tokens n (None if not fixed)."""

    layers: int
    dim: int
    heads: int
    dim_head: int
    tokens: int | None


@dataclass(frozen=True)
class Layer:
    """One layer of a module: where its sites pass, its subspaces, its norm, its steps.

    Attributes:
        number: counted from 1. taps: site -> where it is read.
        norm: the normalisation in front of the attention, a function of (B, n, d) tokens; None
            where there is none. operators: what its steps are made of (`D`, `lam`, `eta`).
        bases: basis -> U (K, d, p), raw.
    """

    number: int
    taps: Mapping[str, Tap]
    norm: nn.Module | None
    operators: Mapping[str, Tensor | float]
    bases: Callable[[str], Tensor]


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input: size, crop and normalisation.

    `mode` is 'RGB' or 'L' (one channel); `crop` the share of the resized side that is kept, so that
    224 with crop 0.875 is the usual "resize 256, centre crop 224".
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Literal["RGB", "L"] = "RGB"
    crop: float = 0.875
    interpolation: str = "bilinear"

    @classmethod
    def imagenet(cls, size: int = 224) -> "Preprocess":
        """Means and spreads of ImageNet's colours, and the usual crop."""
        return cls(size=size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class TextPreprocess:
    """How a text becomes a language model's input: its tokenizer, and the tokens in a window.

    `tokenizer` is `bytes`, the path of a JSON file of the tokenizers library, or a name or folder
    for transformers.
    """

    tokenizer: str
    length: int = 128


@dataclass(frozen=True)
class Recognised:
    """What a state dict says of its network, and what it cannot say.

    Attributes:
        arch: the arguments that keys and shapes settle.
        inner: K*p, the width that the heads share; None where the number of heads is settled.
        ask: other arguments that no file holds and that matter -> the choices that were published.
    """

    arch: Mapping[str, Any]
    inner: int | None = None
    ask: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


class Family(ABC):
    """A model family: how it is built, where its sites are, which bases it has."""

    name: ClassVar[str]
    default_basis: str
    absent: Mapping[str, str] = {}
    """Sites that the family lacks, and why: the reason is part of the error."""
    listed: ClassVar[bool] = True
    """Whether `families()` lists it; not one whose instances each map one module."""
    fingerprints: ClassVar[tuple[Mapping[str, int], ...]] = ()
    """Of each format of the family's files, keys that all of them have -> how many dimensions.

    They are what `recognise` goes by; a file that has most of one is told which it lacks.
    """
    positions: ClassVar[tuple[str, ...]] = ()
    """Position embeddings that `interpolate_positions=True` resamples when a file is loaded."""
    assumed_from: ClassVar[str] = "every published model of this family has them"
    """Why the values that `assumed` gives are the plausible ones: part of the warning."""
    timm_modules: ClassVar[tuple[str, ...]] = ()
    """The files of timm whose models this family builds by name."""

    @abstractmethod
    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build the network, with random weights, from its architecture's arguments."""

    @abstractmethod
    def matches(self, module: nn.Module) -> bool:
        """Whether a module the user already has is of this family."""

    @abstractmethod
    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the module."""

    @abstractmethod
    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Site -> where it is read in this layer (counted from 1), for this module."""

    @abstractmethod
    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U of a layer, as (K, d, p), in the named basis, raw (not orthonormalised)."""

    @abstractmethod
    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """The names of the bases that come from the module's own weights."""

    @abstractmethod
    def official_site(self, basis: str) -> str | None:
        """The site whose per-head tokens the `official` convention measures in this basis.

        None where no site has them: the tokens at `attn_in` are projected instead.
        """

    @abstractmethod
    def prefix_tokens(self, module: nn.Module) -> int:
        """How many tokens stand before the patches (class token, registers)."""

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """What a layer's steps are made of, besides U, as fidelity measures need it.

        `D` (d, d) acting on token rows as `Z D^T`, with `lam` and `eta`, where the second step is a
        proximal one; (d, h) where two such steps from zero make the code at site `code`. Empty in
        layers that have none.
        """
        return {}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module | None:
        """The normalisation in front of the layer's attention, a function of (B, n, d) tokens."""
        return None

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> "Recognised | None":
        """Read the architecture from a state dict's keys and shapes; None if they are not its own.

        Prefixes such as `module.` are stripped already.
        """
        return None

    def marked(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a state dict has all keys of one of the fingerprints."""
        return any(
            all(len(shapes.get(key, ())) == rank for key, rank in marks.items())
            for marks in self.fingerprints
        )

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments that no file holds -> their values in every published model.

        They complete an architecture that is silent about them, with a warning where the user's
        own file is loaded. What differs between published models is asked for (`Recognised.ask`).
        """
        return {}

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a training script's own arguments, kept beside the weights, say of this family."""
        return {}

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The arguments that a number of heads settles, given their total width K*p."""
        return {"heads": heads, "dim_head": inner // heads}

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """The preprocessing that the module itself states; None when only the entry knows."""
        return None

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Bring a file's keys into the network's own names; unchanged unless a family says so."""
        return weights


GROUP = "whitebox_probe.families"


@cache
def families() -> dict[str, Family]:
    """Every family, by name: those of this folder, then those that other packages add.

    Raises: PluginError for a package whose family cannot be had, or has a name that is taken.
    """
    return _own() | {name: _added(name) for name in _entries()}


@cache
def _own() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for module in discover.modules(rooms):
        for thing in vars(module).values():
            of_family = isinstance(thing, type) and issubclass(thing, Family) and thing.listed
            if of_family and thing.__module__ == module.__name__ and hasattr(thing, "name"):
                discover.unique(found, thing.name, thing())
    return found


@cache
def _entries() -> dict[str, list[EntryPoint]]:
    """Who adds a family of which name; nothing of theirs is imported."""
    return discover.plugins(GROUP)


@cache
def _added(name: str) -> Family:
    """The family that another package adds under a name."""
    entries = _entries()[name]
    who = [f"{e.dist.name if e.dist else 'a package'} ({e.value})" for e in entries]
    others = ["whitebox-probe"] * (name in _own()) + who[:-1]
    if others:
        raise PluginError(
            f"the family '{name}' of {who[-1]} cannot be added",
            f"{others[0]} has one of that name",
            "Rename it, or uninstall one of the packages",
        )
    try:
        made = entries[0].load()()
    except Exception as error:  # whatever another package's code raises
        told = (str(error).splitlines() or [""])[0]
        raise PluginError(
            f"the family '{name}' of {who[0]} cannot be loaded",
            f"{type(error).__name__}: {told}",
            "Mend or uninstall that package, or name another family",
        ) from error
    if not isinstance(made, Family) or getattr(made, "name", None) != name:
        raise PluginError(
            f"the family '{name}' of {who[0]} cannot be used",
            f"it gives {type(made).__name__} '{getattr(made, 'name', '')}'",
            f"Name a subclass of Family whose name is '{name}'",
        )
    return made


def is_own(family: Family) -> bool:
    """Whether a family is of this package, and not of another one that adds it."""
    return _own().get(family.name) is family


def family_named(name: str) -> Family:
    """The family of that name; other packages are imported only if it is theirs.

    Raises: ProbeError with the nearest name; PluginError.
    """
    if name in _entries():
        return _added(name)
    if name not in _own():
        raise ProbeError(
            f"unknown model family '{name}'",
            "neither this package nor another one installed has it",
            nearest(name, [*_own(), *_entries()]),
        )
    return _own()[name]


def family_of_timm(name: str) -> str:
    """The family of a timm model, by the file of timm that it is in; `timm_vit` for any other."""
    from timm.models import is_model_in_modules

    def known() -> Iterator[Family]:  # another package is asked only where no family here fits
        yield from _own().values()
        yield from (_added(other) for other in _entries())

    fitting = (f.name for f in known() if is_model_in_modules(name, f.timm_modules))
    return next(fitting, "timm_vit")


@dataclass(frozen=True)
class ProbeModel:
    """A model that can be probed: a torch module with named sites and subspaces.

    Attributes:
        module: the torch module, in evaluation mode, untouched.
        family: how the module's sites and bases are found.
        name: what tables and figures call it.
        entry: the registry entry that it came from, if any.
        preprocess: how an image or a text becomes its input, if known.
        sha256: of the file that the weights came from, if any.
    """

    module: nn.Module
    family: Family
    name: str
    preprocess: Preprocess | TextPreprocess | None = None
    entry: "Checkpoint | None" = None
    sha256: str | None = None
    dims: Dims = field(init=False)
    sites: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read sizes and sites once, so that a module that does not fit is refused early."""
        object.__setattr__(self, "dims", self.family.dims(self.module))
        here = self.family.taps(self.module, 1)
        object.__setattr__(self, "sites", tuple(site for site in SITES if site in here))

    def __repr__(self) -> str:
        """One line: name, family and sizes."""
        s = self.dims
        return (
            f"ProbeModel('{self.name}', family='{self.family.name}', layers={s.layers}, "
            f"d={s.dim}, K={s.heads}, p={s.dim_head})"
        )

    @property
    def layers(self) -> int:
        """Number of layers; they count from 1."""
        return self.dims.layers

    @property
    def bases(self) -> tuple[str, ...]:
        """Names of the bases that come from the model's own weights, the default first."""
        names = self.family.bases(self.module)
        return tuple(sorted(names, key=lambda name: name != self.default_basis))

    @property
    def default_basis(self) -> str:
        """The basis used when none is named."""
        return self.family.default_basis

    @property
    def device(self) -> torch.device:
        """Where the module's first parameter lies."""
        return next(self.module.parameters()).device

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patches (class token, registers)."""
        return self.family.prefix_tokens(self.module)

    def heads_site(self, basis: str) -> str | None:
        """The site whose per-head tokens are those of a basis of the model's own, if any."""
        return self.family.official_site(basis) if basis in self.bases else None

    def layer(self, number: int) -> Layer:
        """A layer, counted from 1.

        Raises: SiteError for a layer out of range.
        """
        self._check_layer(number)
        return Layer(
            number,
            self.family.taps(self.module, number),
            self.family.prenorm(self.module, number),
            self.family.operators(self.module, number),
            lambda basis: self.subspaces(number, basis),
        )

    def tap(self, site: str, layer: int) -> Tap:
        """Where a site is read in a layer.

        Raises: SiteError naming the sites that the family has, or the layers.
        """
        self._check_layer(layer)
        taps = self.family.taps(self.module, layer)
        if site not in taps:
            why = self.family.absent.get(site)
            if why is None:
                why = "it is not among the named sites" if site not in SITES else "it has none"
            raise SiteError(
                f"site '{site}' is not in family '{self.family.name}'",
                why,
                nearest(site, self.sites),
            )
        return taps[site]

    def subspaces(self, layer: int, basis: str | None = None) -> Tensor:
        """U of a layer in a named basis, as (K, d, p); not orthonormalised.

        Raises: BasisError naming the bases that the model has; SiteError for a layer out of range.
        """
        self._check_layer(layer)
        basis = self.default_basis if basis is None else basis
        if basis not in self.bases:
            raise BasisError(
                f"basis '{basis}' is not in family '{self.family.name}'",
                "its attention has no such projection",
                nearest(basis, self.bases),
            )
        return self.family.subspaces(self.module, layer, basis).detach()

    def _check_layer(self, layer: int) -> None:
        if not 1 <= layer <= self.layers:
            raise SiteError(
                f"layer {layer} does not exist",
                f"the model has {self.layers} layers",
                f"Use a layer from 1 to {self.layers}",
            )


def build(family: str, arch: Mapping[str, Any], *, source: str) -> nn.Module:
    """Build a family's network; a wrong argument is the user's error, named with its source."""
    try:
        return family_named(family).build(arch).eval()
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise CheckpointError(
            f"the architecture of {source} cannot be built",
            str(error),
            f"Check the arguments {dict(arch)}",
        ) from error
