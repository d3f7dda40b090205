"""What a module is, read-only: its sizes, its layers, and where their sites pass.

An `Anatomy` reads modules of one kind and changes none. `layer` gives a `Layer` whole: the taps of
its sites, its subspaces, its norm and its steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.preprocess import Preprocess


@dataclass(frozen=True)
class Tap:
    """Where a site's tensor passes: the input or output of a module, and how it is reshaped.

    Attributes:
        keywords: names of keyword arguments of the call that `transform` is given too, None for
            those the call does not have; only on the input side.
        beside: places of other positional arguments of the call that `transform` is given after
            the tensor; only on the input side.
        like: a module that is given the tokens as (B, n, d), where this one is given them as
            (B*n, d): the tensor takes their shape.
        turn: which pass of the module is read (from 0), and of how many in one forward pass: layers
            may share a module (`models/turns.py`).
    """

    module: str
    side: Literal["input", "output"]
    transform: Callable[..., Tensor] | None = None
    keywords: tuple[str, ...] = ()
    like: str = ""
    beside: tuple[int, ...] = ()
    turn: tuple[int, int] = (0, 1)

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
            if self.transform is None:
                return tensor
            return self.transform(tensor, *(args[i].detach() for i in self.beside), **more)


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
            where there is none.
        bases: basis -> U (K, d, p), raw (not orthonormalised).
        operators: what its steps are made of, besides U, as fidelity measures need it. `D` (d, d)
            acting on token rows as `Z D^T`, with `lam` and `eta`, where the second step is a
            proximal one; (d, h) where two such steps from zero make the code at site `code`. Empty
            in layers that have none.
        second: the second step's update as it is added, where it is one; read only to be verified.
        context: what the attention makes of the values, (B, n, K*p); read only to be verified.
        out: the attention's output map, where its context passes no module: `attn_out` is what it
            makes of the context; read only to be verified.
        update: what `attn_out` has to be of `attn_in`, where no map says it; only to be verified.
        after: in post-norm layers, the norms behind the two sums.
        causal: whether a token attends to itself and the tokens before it alone.
        absent: sites that this layer lacks, and why, beside those that its kind lacks.
        exempt: what usually holds between sites, norm and subspaces, and does not hold here -> why.
            The names are those of the tests in `tests/contract/test_every_family.py`.
    """

    number: int
    taps: Mapping[str, Tap]
    norm: nn.Module | None
    bases: Callable[[str], Tensor]
    operators: Mapping[str, Tensor | float] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)
    second: Tap | None = None
    context: Tap | None = None
    out: nn.Module | None = None
    update: Callable[[Tensor], Tensor] | None = None
    after: tuple[nn.Module, nn.Module] | None = None
    causal: bool = False
    absent: Mapping[str, str] = field(default_factory=dict)


class Anatomy(ABC):
    """How modules of one kind are read: sizes, layers, bases, tokens in front of the patches."""

    name: str
    """What tables and run.json call the kind: the family's name."""
    default_basis: str
    """The basis used when none is named."""
    absent: Mapping[str, str] = {}
    """Sites that the kind lacks, and why: the reason is part of the error."""
    sample_axes: int | None = None
    """How many axes a sample of the example has that the mapping was tried on; None without one."""
    says_prefix: bool = True
    """Whether it is known how many tokens stand before the patches."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the module."""

    @abstractmethod
    def layer(self, module: nn.Module, number: int) -> Layer:
        """A layer (counted from 1) of this module."""

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

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """Rows and columns of the patches of a batch of inputs, in the order of the tokens.

        None where they are on no grid, or on one that the family does not know.
        """
        return None

    def class_index(self, module: nn.Module) -> int | None:
        """Which token is the class token; None where there is none."""
        return 0 if self.prefix_tokens(module) == 1 else None

    def trial(self, module: nn.Module) -> Callable[[], object] | None:
        """What runs every layer once on a few tokens, to see that sites are what they say.

        None where the family's networks are of this package alone, and compute nothing else: only
        their projections are tried then.
        """
        return None

    def takes_ids(self, module: nn.Module) -> bool:
        """Whether a module of a library whose models are of both kinds takes token ids."""
        return True

    def stated(self) -> Mapping[str, Any]:
        """What a user said of the module that its parts do not hold, in plain values."""
        return {}

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """The preprocessing that the module itself states; None when only the entry knows."""
        return None
