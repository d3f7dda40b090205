"""Folders of several files that are written as one: all of them new, or no result at all.

The last file, the seal, holds the digests of the others, and its own. Everything is first written
into a hidden folder. That folder is then given a name of its own (`SAVED`), in one step: until then
the old result is the result, and from then on the new one is. Its files move into place, the seal
last. If that is cut off, by a kill or a full disk, whoever reads or writes the folder next moves
the rest, once the seal in it has shown that it is a save. A file of another save does not have the
digest that the seal tells.
"""

import csv
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from whitebox_probe._core import arguments
from whitebox_probe._core.errors import ResultError, SettingError
from whitebox_probe._core.gate import (
    Unfit,
    digest,
    expect,
    gate,
    given_path,
    is_file,
    is_folder,
    not_as_written,
    read_mapping,
    reason,
    size_of,
)
from whitebox_probe._core.io import DISK, in_turn, is_part, open_to_others, sha256, temporary_folder
from whitebox_probe.results import _schema, kinds

FILES, DIGEST = "files", "digest"
SAVED = ".whitebox-saved"
_TRIES = 10
Read = TypeVar("Read")


def as_folder(given: str | Path) -> Path:
    """A folder as a user gives it.

    Raises: SettingError for what is no path, or one that no folder can have.
    """
    arguments.expect("folder", given, arguments.path, "a result is saved in it")
    try:
        given_path(given)
    except Unfit as error:
        what = f"folder is {arguments.told(given)}"
        raise SettingError(what, str(error), "Name a folder", setting="folder") from error
    return Path(given)


def save_sealed(
    folder: Path,
    writers: Mapping[str, Callable[[Path], Any]],
    seal: str,
    content: Mapping[str, Any],
    *,
    free: Sequence[str] = (),
    check: Callable[[Path], Any] = lambda _: None,
) -> Path:
    """Write files, and the seal with their digests beside its content.

    Args:
        writers: file name -> what writes it to a path.
        free: files whose digest is not kept: nothing is read from them, and they may be edited.
        check: reads what was written in a hidden folder, before it replaces anything; raises what
            reading raises, or Unfit if it is not what was to be saved.

    Returns: the folder.
    Raises: ResultError if something that is no save of this package is in the way of one, or
        would be replaced, or the folder holds something of another kind, or for what would not be
        read again.
    """
    expect_own(folder, seal, list(writers))
    _expect_alone(folder, seal)
    with saved_as_one(folder) as new, _read_again(folder):
        digests = {}
        for name, write in writers.items():
            write(new / name)
            if name not in free:
                digests[name] = sha256(new / name)
        whole = json.loads(json.dumps(dict(content) | {FILES: digests}))
        whole[DIGEST] = digest(whole)
        (new / seal).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
        check(new)
    return folder


@contextmanager
def _read_again(folder: Path) -> Iterator[None]:
    """Tell what cannot be written, or read once it is, before it replaces anything.

    Raises: ResultError; OSError of a disk.
    """
    try:
        with gate():
            yield
    except (Unfit, ResultError) as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        why = error.why if isinstance(error, ResultError) else str(error)
        raise ResultError(
            f"nothing is saved in {folder}",
            f"what was to be saved would not be read again: {why}",
            "Save it as this program gave it, and a table of your own with its to_csv",
        ) from error


@contextmanager
def saved_as_one(folder: Path) -> Iterator[Path]:
    """A hidden folder to save in, all of which is the folder's own at the end, or none of it.

    Saves, and what is written beside them or in folders below: figures, tables, results of an
    audit. One of them has its seal in the hidden folder itself.

    Raises: ResultError if something is in the way, or the disk takes nothing.
    """
    _expect_free(folder / SAVED)
    with _on_disk(folder):
        with temporary_folder(folder, "saving") as new:
            yield new
            open_to_others(new)
            _expect_places(new, folder)
            _agree(new, folder)
        finish(folder)


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    """Tell what the disk refuses: a folder that cannot be written, a disk that is full.

    Raises: ResultError, of which the system's error is the cause.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise ResultError(
            f"nothing can be saved in {folder}",
            reason(error),
            "Make room there and see that it can be written, or use another folder",
        ) from error


def _expect_places(new: Path, folder: Path) -> None:
    """Refuse, before anything is moved, a folder in the place of a file, or the other way.

    Raises: ResultError.
    """
    for path in sorted(new.rglob("*")):
        there = folder / path.relative_to(new)
        if there.exists() and there.is_dir() != path.is_dir():
            raise ResultError(
                f"nothing can be saved in {folder}",
                f"{there} is {'a folder' if there.is_dir() else 'no folder'}, and in the way",
                "Move it away, or use another folder",
            )
    for path in new.glob("*/**/*.json"):  # of saves below; this one's are known beforehand
        others = [each.name for each in path.parent.iterdir() if each != path]
        expect_own(folder / path.parent.relative_to(new), path.name, others)


def _agree(new: Path, folder: Path) -> None:
    """Make a save the folder's own, behind any that another process has not moved yet."""
    while True:
        _expect_free(folder / SAVED)
        finish(folder)
        try:
            new.rename(folder / SAVED)
        except OSError:
            if not (folder / SAVED).exists():
                raise
        else:
            return


def _expect_free(saved: Path) -> None:
    """Refuse what no save has left under its name.

    Raises: ResultError.
    """
    with suppress(FileNotFoundError, NotADirectoryError):  # the latter is told by what writes there
        kind = saved.lstat().st_mode
        if not stat.S_ISDIR(kind) or _holds_other(saved):
            raise ResultError(
                f"nothing can be saved in {saved.parent}",
                f"{SAVED} in it is in the way, and no save of this program",
                f"Move {saved} away, or use another folder",
            )


def _holds_other(saved: Path) -> bool:
    """Whether what lies under the name of a save is none, and none of which a part was moved."""
    with _in_turn(saved) as there:
        return there and any(saved.iterdir()) and _seal_in(saved) is None


@contextmanager
def _in_turn(saved: Path) -> Iterator[bool]:
    """Wait for those who move a save; False if nothing is left of it.

    Raises: ResultError.
    """
    try:
        with in_turn(saved) as there:
            yield there
    except TimeoutError as error:
        raise _under_way(saved.parent) from error


def _under_way(folder: Path) -> ResultError:
    return ResultError(
        f"nothing can be saved or read in {folder}",
        "another save into it is under way",
        "Try again once it has ended, or use another folder",
    )


def expect_own(folder: Path, seal: str, others: Sequence[str]) -> None:
    """Check that a save would replace files of an older one alone, and none of a user's own.

    An older save may be of another version, damaged, or without its seal.

    Args: seal, others: the names of the files of a save.
    Raises: ResultError.
    """
    # Looked at twice: the first time, another save may be about to move its files there.
    there = _of_others(folder, seal, others) and _of_others(folder, seal, others)
    if there:
        raise ResultError(
            f"nothing can be saved in {folder}",
            f"{', '.join(there)} would be replaced, and nothing tells that this program wrote that",
            f"Move {'it' if len(there) == 1 else 'them'} away, or name another folder",
        )


def _of_others(folder: Path, seal: str, others: Sequence[str]) -> list[str]:
    with suppress(OSError):  # told by what writes there
        finish(folder)
    there = [name for name in (seal, *others) if os.path.lexists(folder / name)]
    return [] if holds_own(folder, seal, others) else there


def holds_own(folder: Path, seal: str, others: Sequence[str]) -> bool:
    """Whether a folder holds a save of this package, which may be damaged or without its seal."""
    if is_own_file(folder / seal):
        return True
    tables = [name for name in others if name in kinds.COLUMNS]
    whole = all(is_file(folder / name) for name in others)
    return bool(tables) and whole and all(_is_own_table(folder / name) for name in tables)


def _is_own_table(path: Path) -> bool:
    """Whether a table of CSV has just the columns that some version wrote, and rows of these.

    A column more, a cell more or a word in place of a number is a user's own, and not replaced.
    """
    with suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = tuple(next(rows, ()))
        if columns not in kinds.COLUMNS[path.name]:
            return False
        numbers = [i for i, name in enumerate(columns) if name in kinds.NUMBERS]
        for row in rows:
            if len(row) != len(columns):
                return False
            for i in numbers:
                float(row[i] or "nan")
        return True
    return False


def is_own_file(path: Path) -> bool:
    """Whether some version of this package wrote a JSON file: a seal, or one of a run."""
    try:
        told = read_mapping(path)
    except Unfit:
        return False
    return _is_seal(told) or _follows(kinds.OWN.get(path.name), told)


def _is_seal(told: Mapping[str, Any]) -> bool:
    """Whether it tells its own digest, and other files': nobody else's does by chance."""
    rest = {key: value for key, value in told.items() if key != DIGEST}
    return isinstance(told.get(FILES), dict) and told.get(DIGEST) == digest(rest)


def _follows(schema: Mapping[str, Any] | None, told: Mapping[str, Any]) -> bool:
    if schema is None:
        return False
    with suppress(Unfit):
        expect(schema, told)
        return True
    return False


def expect_room(folder: Path, kind: str) -> None:
    """Check that a folder, if it is there, holds nothing but what it is to hold.

    Files of a user's own may lie in it, unless their names are those of what is to be written.

    Args: kind: one of `kinds`, which may be replaced; "" for none.
    Raises: ResultError.
    """
    by_name = {name for name, told in kinds.TOLD_BY.items() if told == kind}
    own = kinds.TOGETHER.get(kind, by_name)
    _expect_no_other(folder, [name for name in kinds.TOLD_BY if name not in own])
    if kind not in kinds.FILES:
        return
    seal, *others = kinds.FILES[kind]
    expect_own(folder, seal, others)
    for name in sorted(own.difference(kinds.FILES[kind])):
        if is_file(folder / name):
            expect_own(folder, name, [])


def _expect_no_other(folder: Path, names: Sequence[str]) -> None:
    other = next((name for name in names if is_file(folder / name)), None)
    if other is not None:
        raise ResultError(
            f"{folder} holds {kinds.TOLD_BY[other]} ({other})",
            "a folder holds one thing: report would not know which",
            "Use another folder",
        )


def _expect_alone(folder: Path, seal: str) -> None:
    """Refuse to save beside what `report` would find in the folder as well.

    Raises: ResultError.
    """
    saved = {of: files for of, files in kinds.FILES.items() if seal not in files}
    _expect_no_other(folder, [name for name, of in kinds.TOLD_BY.items() if of in saved])


def is_own(folder: Path, kind: str) -> bool:
    """Whether a folder holds something of a kind that this program wrote."""
    if kind not in kinds.FILES:
        return False
    seal, *others = kinds.FILES[kind]
    return holds_own(folder, seal, others)


def _seal_in(saved: Path) -> Path | None:
    """The seal of a save that was written whole: it tells its own digest, and other files'."""
    paths = []
    with suppress(FileNotFoundError):  # who moves a save removes its folder, also as it is listed
        paths = sorted(saved.glob("*.json"))
    for path in paths:
        with suppress(Unfit):
            if _is_seal(read_mapping(path)):
                return path
    return None


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in order, but for those of saves that are under way."""
    return sorted(
        path for path in folder.glob("*/") if path.name != SAVED and not is_part(path.name)
    )


def finish(folder: Path) -> None:
    """Move what a save has written whole, and has not moved yet, into place.

    What is no save of this package stays where it is.

    Raises: OSError where that cannot be done; it can be tried again. ResultError where another save
        is at it for long.
    """
    saved = folder / SAVED
    if saved.is_symlink() or not is_folder(saved):
        return
    # In turn: who moves the files of one save must not go on with those of the next, seal first.
    with suppress(FileNotFoundError), _in_turn(saved) as there:
        seal = _seal_in(saved) if there else None
        if seal is not None:
            _move(saved, folder, last=seal)
        if there and not any(saved.iterdir()):
            _remove_empty(saved)


def _remove_empty(saved: Path) -> None:
    try:
        saved.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # the next save has taken its place
            raise


def _move(saved: Path, folder: Path, *, last: Path | None = None) -> None:
    """Move files into place, those of folders into the folders of their names."""
    for path in sorted(saved.iterdir(), key=lambda each: each == last):
        with suppress(FileNotFoundError):
            if not path.is_dir():
                path.replace(folder / path.name)
                continue
            (folder / path.name).mkdir(exist_ok=True)
            _move(path, folder / path.name)
            path.rmdir()


def read_sealed(
    folder: Path,
    seal: str,
    read: Callable[[dict[str, Any]], Read],
    *,
    what: str,
    fix: str,
    needed: Sequence[str] = (),
) -> Read:
    """What is made of the files of one save, all of which the seal's digests have checked.

    Saves do not wait for those who read. Where one has replaced a file meanwhile, all is read anew.

    Args: read: makes it of what the seal holds, and of the other files. what: `result`, say, for
        messages. fix: how one is made. needed: files whose digests a seal that has any has to tell.
    Returns: what `read` does.
    Raises: ResultError when the folder is not whole, or saves into it follow each other.
    """
    for _ in range(_TRIES):
        _finish_before(folder, what)
        begun = _standing(folder, seal)
        try:
            found = read(_checked(folder, seal, what=what, fix=fix, needed=needed))
        except ResultError:
            if begun is not None and begun == _standing(folder, seal):
                raise
        else:
            if begun is not None and begun == _standing(folder, seal):
                return found
    raise _under_way(folder)


def _standing(folder: Path, seal: str) -> tuple[bytes, tuple[int, int]] | None:
    """The seal that a folder has, and which file it is; None while files are moved to or below it.

    Saves may bring the same seal again, in another file. In this order: the hidden folder of a save
    is gone only once its seal has been moved.
    """
    if any(_seal_in(each / SAVED) for each in (folder.parent.parent, folder)):
        return None
    with suppress(OSError):
        if is_file(folder / seal):
            told = (folder / seal).stat()
            return (folder / seal).read_bytes(), (told.st_ino, told.st_mtime_ns)
    return b"", (0, 0)


def read_seal(
    folder: Path, seal: str, *, what: str, fix: str, needed: Sequence[str] = ()
) -> dict[str, Any]:
    """What the seal holds, after it and the other files have been checked against its digests.

    Args, Raises: as of `read_sealed`.
    """
    return read_sealed(folder, seal, lambda whole: whole, what=what, fix=fix, needed=needed)


def _finish_before(folder: Path, what: str) -> None:
    """Finish what has been saved there before it is read.

    Raises: ResultError.
    """
    try:
        # An audit is saved as one with the results below it, which are read by themselves as well.
        finish(folder.parent.parent)
        finish(folder)
    except OSError as error:
        raise ResultError(
            f"the {what} in {folder} is not whole",
            f"its saving was cut off, and the rest cannot be moved: {error.strerror}",
            f"Make room, or the folder writable, and read it again; or move what is in {SAVED}",
        ) from error


def _checked(
    folder: Path, seal: str, *, what: str, fix: str, needed: Sequence[str]
) -> dict[str, Any]:
    """What the seal holds, if it and the other files are as its digests tell.

    A seal of an older version has no digest of its own, or none at all.

    Raises: ResultError.
    """
    if not is_file(folder / seal):
        why = f"it has no {seal}" if is_folder(folder) else "there is no such folder"
        raise ResultError(f"{folder} holds no {what}", why, fix)
    try:
        whole = read_mapping(folder / seal)
        own = whole.pop(DIGEST, None)
        if own is not None and own != digest(whole):
            not_as_written(seal)
        digests = whole.pop(FILES, {})
        expect(_schema.FILES, digests, name=FILES)
        if absent := [name for name in needed if name not in digests and digests]:
            raise Unfit(f"{seal} does not tell the digest of {absent[0]}")
        wrong = [name for name, told in digests.items() if _sha256(folder / name) != told]
    except Unfit as why:
        raise ResultError(f"the {what} in {folder} cannot be read", str(why), fix) from why
    if wrong:
        raise ResultError(
            f"the {what} in {folder} is not whole",
            f"{', '.join(wrong)} is not the file that {seal} was written with",
            fix,
        )
    return whole


def _sha256(path: Path) -> str:
    try:
        size_of(path)
        with gate():
            return sha256(path)
    except Unfit as why:
        raise Unfit(f"{path.name}: {why}") from why
