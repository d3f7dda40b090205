"""What a model family tells the rest of the package: how it is built, recognised and converted.

A family is one file in `families/`: its network, its `Anatomy`, its `Family`. The registry finds it
there, and finds those of other packages by their entry points.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.models.anatomy import Anatomy
from whitebox_probe.models.arguments import Kind, kinds_of


@dataclass(frozen=True)
class Recognised:
    """What a state dict says of its network, and what it cannot say.

    Attributes:
        arch: the arguments that keys and shapes settle.
        inner: K*p, the width that the heads share; None where the number of heads is settled.
        ask: other arguments that no file holds and that matter -> the choices that were published.
        flat: whether patches are rows of numbers, which leave open how many channels they have.
    """

    arch: Mapping[str, Any]
    inner: int | None = None
    ask: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    flat: bool = False


class Family(ABC):
    """A model family: how its networks are built, and how its files are recognised and read."""

    name: ClassVar[str]
    reads: ClassVar[type[Anatomy]]
    """How its modules are read: the class of its `anatomy`."""
    example: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments of small networks, one of each kind in the family: for tables and tests."""
    tested: ClassVar[str] = ""
    """What was tested of it, and how: a column of the table in docs/families.md."""
    fingerprints: ClassVar[tuple[Mapping[str, int], ...]] = ()
    """Of each format of the family's files, keys that all of them have -> how many dimensions.

    They are what `recognise` goes by; a file that has most of one is told which it lacks.
    """
    positions: ClassVar[tuple[str, ...]] = ()
    """Position embeddings that `interpolate_positions=` resamples when a file is loaded."""
    assumed_from: ClassVar[str] = "every published model of this family has them"
    """Why the values that `assumed` gives are the plausible ones: part of the warning."""
    timm_modules: ClassVar[tuple[str, ...]] = ()
    """The files of timm whose models this family builds by name."""

    @cached_property
    def anatomy(self) -> Anatomy:
        """How modules of this family are read; it bears the family's name."""
        return self.reads(self.name)

    def arguments(self) -> Mapping[str, Kind] | None:
        """What each argument of a network may be, by name; None where `build` looks at them."""
        return None

    @abstractmethod
    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build the network, with random weights, from its architecture's arguments."""

    @abstractmethod
    def matches(self, module: nn.Module) -> bool:
        """Whether a module the user already has is of this family."""

    def refuses(self, module: nn.Module) -> str | None:
        """Why a module of a library that the family knows is of no family, if it knows that."""
        return None

    def inputs(self, arch: Mapping[str, Any], *, count: int = 3, seed: int = 0) -> Tensor:
        """Inputs that a network of these arguments takes, drawn at random: for tests.

        Shapes: -> ids (count, 7) where the arguments name a vocabulary, which must have more than
            two; else images (count, C, H, W).
        """
        random = torch.Generator().manual_seed(seed)
        words = arch.get("vocabulary", arch.get("vocab_size"))
        if words is not None:  # the first two ids are special ones in many vocabularies
            return torch.randint(2, words, (count, 7), generator=random)
        side = arch.get("image_size", arch.get("img_size", 12))
        channels = arch.get("channels", arch.get("in_chans", 3))
        return torch.randn(count, channels, side, side, generator=random, dtype=torch.float32)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Read the architecture from a state dict's keys and shapes; None if they are not its own.

        Prefixes such as `module.` are stripped already.
        """
        return None

    def wrapped(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What stands before the names of a network that the fingerprints know with a prefix.

        Given where one of them fits as it is: what is named is taken off, and what stands beside it
        is left out with a note; empty where `convert` judges that itself.
        """
        return ""

    def settled(
        self, arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """Arguments of a named architecture that a user's file settles otherwise than the name."""
        return {}

    def fitting(
        self, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """Arguments with which a network would have the shapes of a file that does not fit it.

        They are advice, and empty where none is known.
        """
        return {}

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
        """What is written in a file or beside it, under names of its own, in this family's words.

        The number of heads, and what is asked for or assumed, are found by their usual names.
        """
        return {}

    def named(self, name: str) -> dict[str, Any] | None:
        """The arguments of an architecture that another library names, if it is of this family."""
        return None

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The arguments that a number of heads settles, given their total width K*p."""
        return {"heads": heads, "dim_head": inner // heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Bring a file's keys into the network's own names; unchanged unless a family says so."""
        return weights

    def is_part(self, module: nn.Module) -> bool:
        """Whether a file is of a larger network, in which this one has its place."""
        return False

    def notes(
        self, weights: Mapping[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> list[LoadWarning]:
        """What a user should know of a file that `convert` brings into the network's names.

        `load` warns of it once the file is loaded.
        """
        return []


class NetworkFamily(Family):
    """A family whose networks are of one class, built from its arguments alone.

    Only that class is of the family: another implementation's modules may compute other things.
    """

    network: ClassVar[type[nn.Module]]

    @cache  # noqa: B019 - there is one of each family
    def arguments(self) -> Mapping[str, Kind] | None:
        """Those of its class, by their annotations."""
        return kinds_of(self.network)

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of its class."""
        return self.network(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only that class."""
        return isinstance(module, self.network)
