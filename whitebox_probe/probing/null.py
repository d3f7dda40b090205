"""What a null is: what stands in for tokens, subspaces or weights when there is nothing to find.

A null is one file in `null_kinds/` with one subclass of `Null`: its kind, its words in the docs,
its line in figures, and how it is drawn. `kinds()` finds them.
"""

from abc import ABC
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from whitebox_probe._core import discover
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe._core.hashing import seed_of
from whitebox_probe.probing import null_kinds


class Null(ABC):
    """One null.

    Class attributes:
        kind: its name. text: what it is, in the docs. line: how figures draw it, a line style of
        matplotlib (a name, or an offset and lengths of dashes). replaces: what it stands in for.
        usual: whether `wp.nulls` measures it when none is named.
        exempt: a contract of tests/contract/test_every_null.py -> why it does not apply.
    """

    kind: ClassVar[str]
    text: ClassVar[str]
    line: ClassVar[Any] = "-."
    replaces: ClassVar[Literal["tokens", "subspaces", "weights"]]
    usual: ClassVar[bool] = False
    exempt: ClassVar[Mapping[str, str]] = {}

    def tokens(self, z: Tensor, random: torch.Generator) -> Tensor:
        """The tokens of one sample, (n, d) or (K, n, p), that stand in for z."""
        raise NotImplementedError

    def subspaces(self, U: Tensor, random: torch.Generator) -> Tensor:
        """A layer's subspaces, (K, d, p), that stand in for U."""
        raise NotImplementedError


@cache
def kinds() -> dict[str, Null]:
    """Every null, by its kind."""
    found = discover.subclasses(null_kinds, Null, named_by="kind")
    return {kind: null() for kind, null in found.items()}


def null_named(kind: str) -> Null:
    """The null of that kind.

    Raises: ProbeError with the nearest name.
    """
    if kind not in kinds():
        raise ProbeError(
            f"unknown null '{kind}'", "it is none of those known", nearest(kind, kinds())
        )
    return kinds()[kind]


def for_probe() -> tuple[str | None, ...]:
    """What `probe(null=...)` takes: None, and the nulls that leave the model as it is."""
    return (*(k for k, null in kinds().items() if null.replaces != "weights"), None)


def generator(seed: int, *what: int | str) -> torch.Generator:
    """A generator that is the same for the same sample and place, whatever was drawn before."""
    return torch.Generator().manual_seed(seed_of(seed, *what))
