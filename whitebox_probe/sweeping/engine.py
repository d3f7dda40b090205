"""What runs the cells: one process after the other, or an engine of many machines."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from whitebox_probe._core import discover
from whitebox_probe._core.errors import MissingDependency, SweepError, nearest

Ended = tuple[Path, str]
"""The folder of a cell that is over, and why nothing is in it if it was lost."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """How cells are run.

    Attributes: out: the sweep's folder. workers: cells at a time. threads: of torch, for each.
        options: the file's section of the engine's name. progress: whether a bar is shown.
    """

    out: Path
    workers: int | None = None
    threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False


class Engine(ABC):
    """Runs `measure` on folders; what came of each is read from its folder, and not passed on.

    Attributes: package: that it needs. extra: of this project, which installs it.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    def expect(self, job: Job) -> None:
        """Check what can be checked before any work is done.

        Raises: MissingDependency; SweepError.
        """
        if self.package and find_spec(self.package) is None:
            raise MissingDependency(
                f"the engine '{self.name}' cannot be used",
                f"the package {self.package} is not installed",
                f"Run: python -m pip install 'whitebox-probe[{self.extra}]'",
            )

    @abstractmethod
    def run(self, folders: Sequence[Path], job: Job) -> Iterator[Ended]:
        """Each cell as it ends. Left early, it stops what it started, and leaves nothing running.

        Raises: KeyboardInterrupt when a cell was stopped.
        """


@cache
def engines() -> dict[str, type[Engine]]:
    """Every engine by its name."""
    from whitebox_probe.sweeping import engines as folder

    return discover.subclasses(folder, Engine)  # type: ignore[type-abstract]


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises: SweepError, with the nearest name.
    """
    if name not in engines():
        raise SweepError(
            f"there is no engine '{name}'", "it runs the cells", nearest(name, engines())
        )
    return engines()[name]()
