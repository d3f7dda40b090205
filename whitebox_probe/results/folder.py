"""Folders of several files that are written as one: all of them new, or no result at all.

The last file, the seal, holds the digests of the others, and its own. Everything is first written
under other names. The old seal is then taken away, the files move into place, and the new seal
comes last: a kill leaves the old result, or a folder without a seal, or the new one. A file of
another save does not have the digest that the seal tells.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.gate import (
    Unfit,
    digest,
    expect,
    gate,
    is_file,
    is_folder,
    not_as_written,
    read_mapping,
    size_of,
)
from whitebox_probe._core.io import atomic_path, sha256
from whitebox_probe.results import _schema

FILES, DIGEST = "files", "digest"


def save_sealed(
    folder: Path,
    writers: Mapping[str, Callable[[Path], Any]],
    seal: str,
    content: Mapping[str, Any],
    *,
    free: Sequence[str] = (),
) -> Path:
    """Write files, and the seal with their digests beside its content.

    Args:
        writers: file name -> what writes it to a path.
        free: files whose digest is not kept: nothing is read from them, and they may be edited.

    Returns: the folder.
    """
    with ExitStack() as stack:
        # Entered first and so left last: moved into place after all others.
        last = stack.enter_context(atomic_path(folder / seal))
        digests = {}
        for name, write in writers.items():
            path = stack.enter_context(atomic_path(folder / name))
            write(path)
            if name not in free:
                digests[name] = sha256(path)
        whole = json.loads(json.dumps(dict(content) | {FILES: digests}))
        whole[DIGEST] = digest(whole)
        last.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
        (folder / seal).unlink(missing_ok=True)
    return folder


def read_seal(
    folder: Path, seal: str, *, what: str, fix: str, needed: Sequence[str] = ()
) -> dict[str, Any]:
    """What the seal holds, after it and the other files have been checked against its digests.

    A seal of an older version has no digest of its own, or none at all.

    Args: what: `result`, say, for messages. fix: how one is made. needed: files whose digests a
        seal that has any has to tell.
    Raises: ResultError when the folder is not whole.
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
