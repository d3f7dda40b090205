"""The folder of downloaded files: one process at a time, whole files, what is torn cleared away."""

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe._core.gate import Unfit, reason
from whitebox_probe._core.io import atomic_path, temporary_folder, tidy
from whitebox_probe.checkpoints._described import CACHE_VARIABLE, origin
from whitebox_probe.checkpoints._registry import Checkpoint

LOCK = ".lock"


@contextmanager
def on_disk(checkpoint: Checkpoint, folder: Path) -> Iterator[None]:
    """Tell what the disk refuses: a folder that cannot be written, one that is full.

    Raises: CheckpointError.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"'{checkpoint.name}' from {origin(checkpoint)} cannot be kept in {folder}",
            reason(error),
            f"Make room and see that it can be written, or set {CACHE_VARIABLE} to another folder",
        ) from error


@contextmanager
def alone(checkpoint: Checkpoint, folder: Path, *, progress: bool) -> Iterator[None]:
    """Hold a folder against other processes, after a wait, and clear what killed ones left.

    The system lets go of the lock when a process ends, however it does. A file system without locks
    has none held, and nothing cleared: each download has a name of its own until it is whole.

    Raises: CheckpointError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    with on_disk(checkpoint, folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if progress:
                    told = f"{checkpoint.name}: waiting for the process that fetches it already"
                    print(told, file=sys.stderr)
                lock.acquire()
            tidy(folder)
        except NotImplementedError:
            pass
    try:
        yield
    finally:
        lock.release()


def set_aside(checkpoint: Checkpoint, path: Path, why: str) -> None:
    """Rename a damaged file, and warn of it; a link to it, as the hub's cache has, is taken away.

    Raises: CheckpointError.
    """
    real = path.resolve()
    names = (f"{real.name}.damaged{number or ''}" for number in count())
    aside = next(one for name in names if not os.path.lexists(one := real.with_name(name)))
    with on_disk(checkpoint, real.parent):
        real.rename(aside)
        if path != real:
            path.unlink(missing_ok=True)
    note = LoadWarning(
        f"the file of '{checkpoint.name}' at {path} is damaged",
        why,
        f"It is fetched again; the damaged one is kept as {aside}",
    )
    warnings.warn(note, stacklevel=4)


class Sink:
    """What a download is written to: a file that takes no more than it should.

    Attributes: size: bytes, if the registry says so.
    """

    def __init__(self, checkpoint: Checkpoint, file: BinaryIO, folder: Path) -> None:
        self._checkpoint = checkpoint
        self._file = file
        self._folder = folder
        self.size = checkpoint.size
        self._held = 0
        self._free = shutil.disk_usage(folder).free
        # A file of unknown length may fill half of what is free, and so not the disk.
        self._most = self._free // 2
        self._why = "half of the room that is left on the disk; the registry can say its size"
        if checkpoint.size is not None:
            self._most, self._why = checkpoint.size, "the registry says"

    def expect(self, length: int) -> None:
        """Be told the length before anything is written.

        Raises: Unfit for one that is not the registry's; CheckpointError if there is no room.
        """
        if self.size is None:
            self._most, self._why = length, "the server announced"
        elif length != self.size:
            raise Unfit(f"it has {length} bytes and the registry says {self.size}")
        if length > self._free:
            with on_disk(self._checkpoint, self._folder):
                raise OSError(0, f"it has {length:,} bytes, and {self._free:,} are free there")

    def again(self) -> None:
        """Start anew."""
        with on_disk(self._checkpoint, self._folder):
            self._file.seek(0)
            self._file.truncate()
        self._held = 0

    def write(self, content: bytes) -> int:
        """Take more.

        Raises: Unfit for too much; CheckpointError if the disk refuses it.
        """
        if self._held + len(content) > self._most:
            raise Unfit(f"it goes on after {self._most} bytes, which is what {self._why}")
        with on_disk(self._checkpoint, self._folder):
            self._file.write(content)
        self._held += len(content)
        return len(content)

    def flush(self) -> None:
        """Nothing, for libraries that ask for it after each piece."""

    def settle(self) -> None:
        """Have all that was written on the disk, before it is read back and gets its name.

        Raises: CheckpointError if the disk refuses it.
        """
        with on_disk(self._checkpoint, self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def sink(checkpoint: Checkpoint, target: Path) -> Iterator[tuple[Sink, Path]]:
    """A file to write to, and its name for now: it has its own once the block has succeeded.

    Raises: CheckpointError if the disk refuses it.
    """
    with on_disk(checkpoint, target.parent), atomic_path(target) as partial:
        with partial.open("w+b") as file:
            yield Sink(checkpoint, file, target.parent), partial


@contextmanager
def folder_beside(checkpoint: Checkpoint, target: Path) -> Iterator[Path]:
    """A folder on the same disk as `target`, which is gone afterwards.

    Raises: CheckpointError if the disk refuses it.
    """
    with ExitStack() as stack:
        with on_disk(checkpoint, target.parent):  # what is done with the folder has its own errors
            folder = stack.enter_context(temporary_folder(target.parent, "download"))
        yield folder
