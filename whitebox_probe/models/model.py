"""The model that a user holds: a torch module with named sites and subspaces."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import BasisError, DataError, ProbeError, SiteError, nearest
from whitebox_probe._core.gate import named
from whitebox_probe._core.lines import short
from whitebox_probe._core.memory import is_lack
from whitebox_probe.models.anatomy import Anatomy, Dims, Layer, Tap
from whitebox_probe.models.offloaded import device_of
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.models.turns import Turns, in_turn, turns_of
from whitebox_probe.sites import SITES

if TYPE_CHECKING:
    from whitebox_probe.checkpoints import Checkpoint
    from whitebox_probe.models.family import Family


_read: "ContextVar[dict[tuple[int, int], tuple[ProbeModel, Layer]] | None]"
_read = ContextVar("read", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Read each layer of a model once while the block runs, in which nothing changes the model.

    Measures and sites ask for the same layers some thousand times; those of transformers are found
    by walking the whole module. Also a decorator.
    """
    if _read.get() is not None:
        yield
        return
    before = _read.set({})
    try:
        yield
    finally:
        _read.reset(before)


@contextmanager
def understood(module: nn.Module, anatomy: Anatomy) -> Iterator[None]:
    """Tell in one line that what is read of a module is not there.

    Raises: SiteError.
    """
    try:
        yield
    except (AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        if is_lack(error):
            raise
        raise SiteError(
            f"the layers of a {type(module).__name__} cannot be read as family '{anatomy.name}' "
            "knows them",
            f"reading them gave {named(error)}",
            "Use a model with at least one layer, whose blocks are those of the family",
        ) from error


def sizes_of(anatomy: Anatomy, module: nn.Module) -> Dims:
    """The sizes that a module is read to have, each at least 1.

    Raises: SiteError.
    """
    with understood(module, anatomy):
        found = anatomy.dims(module)
    told = {"layers": found.layers, "d": found.dim, "K": found.heads, "p": found.dim_head}
    if min(told.values()) < 1:
        raise SiteError(
            f"a {type(module).__name__} has nothing to measure",
            "it has " + ", ".join(f"{name} = {size}" for name, size in told.items()),
            "Use sizes of 1 or more",
        )
    return found


def expect_model(given: Any, kinds: type | tuple[type, ...], words: str) -> None:
    """Check that a public function is given a model.

    Raises: ProbeError.
    """
    if not isinstance(given, kinds):
        raise ProbeError(
            f"a {type(given).__name__} is no model", "its layers are measured", f"Pass {words}"
        )


@dataclass(frozen=True)
class ProbeModel:
    """A model that can be probed: a torch module with named sites and subspaces.

    Attributes:
        module: the torch module, in evaluation mode, untouched.
        anatomy: how the module's sites and bases are found.
        name: what tables and figures call it.
        family: the family that it is of; None for a module that is mapped by its paths.
        entry: the registry entry that it came from, if any.
        preprocess: how an image or a text becomes its input, if known.
        sha256: of the file that the weights came from, if any.
    """

    module: nn.Module
    anatomy: Anatomy
    name: str
    family: "Family | None" = None
    preprocess: Preprocess | TextPreprocess | None = None
    entry: "Checkpoint | None" = None
    sha256: str | None = None
    dims: Dims = field(init=False)
    sites: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read sizes and sites once, so that a module that does not fit is refused early."""
        object.__setattr__(self, "dims", sizes_of(self.anatomy, self.module))
        with understood(self.module, self.anatomy):
            here = self.anatomy.layer(self.module, 1).taps
        object.__setattr__(self, "sites", tuple(site for site in SITES if site in here))

    def __repr__(self) -> str:
        """One line: name, family and sizes."""
        s = self.dims
        return (
            f"ProbeModel('{short(self.name)}', family='{self.anatomy.name}', layers={s.layers}, "
            f"d={s.dim}, K={s.heads}, p={s.dim_head})"
        )

    def _repr_html_(self) -> str:
        from whitebox_probe.models.page import of_model

        return of_model(self)

    @property
    def layers(self) -> int:
        """Number of layers; they count from 1."""
        return self.dims.layers

    @property
    def bases(self) -> tuple[str, ...]:
        """Names of the bases that come from the model's own weights, the default first."""
        names = self.anatomy.bases(self.module)
        return tuple(sorted(names, key=lambda name: name != self.default_basis))

    @property
    def default_basis(self) -> str:
        """The basis used when none is named."""
        return self.anatomy.default_basis

    @property
    def device(self) -> torch.device:
        """Where the module's first parameter or buffer lies in a pass; the CPU if it has none."""
        return device_of(self.module)

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patches (class token, registers)."""
        return self.anatomy.prefix_tokens(self.module)

    @property
    def class_index(self) -> int | None:
        """Which token is the class token; None where there is none."""
        return self.anatomy.class_index(self.module)

    @property
    def extra_tokens(self) -> tuple[int, ...]:
        """Which tokens are no patches: those before them, and the class token elsewhere."""
        own = () if self.class_index is None else (self.class_index,)
        return tuple(sorted({*range(self.prefix_tokens), *own}))

    def grid(self, inputs: Tensor) -> tuple[int, int] | None:
        """Rows and columns of the patches of a batch of inputs, where they are known."""
        return self.anatomy.grid(self.module, inputs)

    def prepare(self, images: Any) -> Tensor:
        """Images as the model takes them, (N, C, H, W): the same to the bit as those of files.

        Args: images: one or several, of any sizes: PIL images, paths, bytes of files, arrays or
            tensors (H, W), (H, W, C) or (C, H, W) of whole numbers up to 255, of 16 bits, or of
            fractions up to 1; or all of them as one array (N, ...). Of a model of one channel
            (N, H, W) are N greys; of a model of colours 3 or 4 of them are one picture's channels.
        Raises: DataError for what is no image, and where the model's preprocessing is not known.
        """
        from whitebox_probe.models.images import transform_of_images
        from whitebox_probe.models.pictures import prepared

        if not isinstance(self.preprocess, Preprocess):
            reads = isinstance(self.preprocess, TextPreprocess)
            raise DataError(
                f"{self.name} cannot prepare images",
                "it reads text" if reads else "it does not say how (size, mean and std)",
                "Use wp.data of a text"
                if reads
                else "Load or wrap it with preprocess='imagenet', or a Preprocess of its own",
            )
        greys = self.preprocess.mode == "L"
        made = prepared(images, transform_of_images(self.preprocess), greys=greys)
        return made.to(self.device)

    def heads_site(self, basis: str) -> str | None:
        """The site whose per-head tokens are those of a basis of the model's own, if any."""
        return self.anatomy.official_site(basis) if basis in self.bases else None

    def layer(self, number: int) -> Layer:
        """A layer, counted from 1; its `bases` are checked and detached, as `subspaces` is.

        Raises: SiteError for a layer out of range.
        """
        return replace(self._layer(number), bases=lambda basis: self.subspaces(number, basis))

    def tap(self, site: str, layer: int) -> Tap:
        """Where a site is read in a layer.

        Raises: SiteError naming the sites that the family has, or the layers.
        """
        found = self._layer(layer)
        taps = found.taps
        if site not in taps:
            why = found.absent.get(site) or self.anatomy.absent.get(site)
            if why is None:
                why = "it is not among the named sites" if site not in SITES else "it has none"
            raise SiteError(
                f"site '{site}' is not in family '{self.anatomy.name}'",
                why,
                nearest(site, self.sites),
            )
        return taps[site]

    def subspaces(self, layer: int, basis: str | None = None) -> Tensor:
        """U of a layer in a named basis, as (K, d, p); not orthonormalised.

        Raises: BasisError naming the bases that the model has; SiteError for a layer out of range.
        """
        found = self._layer(layer)
        basis = self.default_basis if basis is None else basis
        if basis not in self.bases:
            raise BasisError(
                f"basis '{basis}' is not in family '{self.anatomy.name}'",
                "its attention has no such projection",
                nearest(basis, self.bases),
            )
        return found.bases(basis).detach()

    def _layer(self, number: int) -> Layer:
        if not 1 <= number <= self.layers:
            raise SiteError(
                f"layer {number} does not exist",
                f"the model has {self.layers} layers",
                f"Use a layer from 1 to {self.layers}",
            )
        held = _read.get()
        if held is not None and (id(self), number) in held:
            return held[id(self), number][1]
        with torch.no_grad():  # weights are read, and no graph of them is kept
            found = in_turn(self.anatomy.layer(self.module, number), self._turns)
        if held is not None:
            held[id(self), number] = (self, found)  # the model too, whose id is its own so
        return found

    @cached_property
    def _turns(self) -> Turns:
        return turns_of(self.anatomy, self.module, self.layers)
