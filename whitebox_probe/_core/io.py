"""Write files whole or not at all, and hash them.

What is being written has a hidden name beside its own, and its writer holds a lock of it, which the
system lets go of however a process ends. So whoever writes into a folder next can tell what a kill
left there from what another process is at work on, and removes it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeGuard

try:
    import fcntl
except ImportError:  # Windows has none, and keeps what a kill left
    _LOCKS = False
else:
    _LOCKS = True

CHUNK = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""System errors of a disk that takes nothing more, whatever is written."""
DISK = FULL | {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
DISK |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}  # something is in the way
"""System errors of a place where nothing can be written or read: what a user can mend."""
_LONG = 30.0  # seconds that files are waited for which another process moves
_PART = ".whitebox-part-"
_LEFT = re.compile(r"\..*" + re.escape(_PART) + r"[a-z0-9_]{8}(\.[^.]*)?")
"""What `tempfile` makes of the two: no name that a user gives."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; move it into place only if the block succeeds.

    The temporary name keeps the suffix, since writers choose their format by it.
    """
    target = Path(target)
    with _part(target.parent, target.stem, target.suffix, _make_file) as temporary:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)


@contextmanager
def temporary_folder(beside: Path, name: str) -> Iterator[Path]:
    """A hidden folder in another one, on the same disk; removed unless the block moves it away."""
    with _part(beside, name, "", _make_folder) as folder:
        yield folder


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder for one process at a time; gives False where another one holds it.

    The folder is made if it is not there, and removed at the end if nothing was put into it.
    """
    made = []
    for each in (folder, *folder.parents):
        if each.exists():
            break
        made.append(each)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock_of(folder / f".claim{_PART}only_one") if _LOCKS else nullcontext(True) as ours:
            yield ours
    finally:
        with suppress(OSError):  # something is in it
            for each in made:
                each.rmdir()


@contextmanager
def in_turn(folder: Path) -> Iterator[bool]:
    """Wait for a folder that one process, or thread, at a time works in; False if it is not there.

    Raises: TimeoutError when another one holds it for long.
    """
    if not _LOCKS:
        yield folder.is_dir()
        return
    until = time.monotonic() + _LONG
    while (handle := _open_folder(folder)) is not None and not _is_ours(handle, folder):
        os.close(handle)
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(folder))
        time.sleep(0.01)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _open_folder(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def _lock_of(path: Path) -> Iterator[bool]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    _held.add(handle)
    ours = _is_ours(handle, path)
    try:
        yield ours
    finally:
        if ours:
            _remove(path)
        _held.discard(handle)
        os.close(handle)


def _let_go() -> None:
    """In a child, which may outlive this process: what that held would stay held."""
    while _held:
        os.close(_held.pop())


_held: set[int] = set()
if _LOCKS:
    os.register_at_fork(after_in_child=_let_go)


def is_full(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error is of a disk that takes nothing more."""
    return isinstance(error, OSError) and error.errno in FULL


def is_part(name: str) -> bool:
    """Whether a file or folder has the hidden name of what is being written, or was."""
    return _LEFT.fullmatch(name) is not None


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of a file for libraries that open names of UTF-8 only: its own, or one of a link."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, f"file{path.suffix}")
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield str(path)


def tidy(folder: Path) -> None:
    """Remove what processes that are gone were writing in a folder."""
    if not _LOCKS:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        left = [each for each in entries if _LEFT.fullmatch(each.name)]
        for each in left:
            with suppress(OSError):
                _remove_left(each)


@contextmanager
def _part(
    folder: Path, name: str, suffix: str, make: Callable[[Path, str, str], tuple[int, str]]
) -> Iterator[Path]:
    """Make something hidden and hold its lock; it is removed if it is still there at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder)
    while True:
        handle, made = make(folder, f".{name}{_PART}", suffix)
        path = Path(made)
        if not _LOCKS:  # what is open can be neither moved nor removed on Windows
            if handle >= 0:
                os.close(handle)
            break
        if _is_ours(handle, path):
            break
        os.close(handle)
    try:
        yield path
    except OSError as error:
        # Of a write to an open file: a quota, a limit, a full disk.
        if error.errno is not None and error.filename is None:
            error.filename = str(folder / f"{name}{suffix}")
        raise
    finally:
        _remove(path)
        if _LOCKS:
            os.close(handle)


def _is_ours(handle: int, path: Path) -> bool:
    """Take the lock of what was made; False where another process took it for left behind."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # the disk has no locks, and nobody there removes what is left
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _make_file(folder: Path, prefix: str, suffix: str) -> tuple[int, str]:
    return tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)


def _make_folder(folder: Path, prefix: str, suffix: str) -> tuple[int, str]:
    while True:
        made = tempfile.mkdtemp(dir=folder, prefix=prefix, suffix=suffix)
        with suppress(FileNotFoundError):  # another process took it for left behind
            return (os.open(made, os.O_RDONLY) if _LOCKS else -1), made


def _remove_left(each: os.DirEntry[str]) -> None:
    flags = os.O_RDONLY if each.is_dir(follow_symlinks=False) else os.O_RDWR
    handle = os.open(each.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whose owner is at work has it
        _remove(Path(each.path))
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(target: Path, content: Any) -> None:
    """Write what JSON holds, sorted by its keys, whole or not at all."""
    with atomic_path(target) as path:
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def open_to_others(folder: Path) -> None:
    """Give a folder the permissions that a new one has; a temporary one is its owner's alone."""
    folder.chmod(0o777 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
