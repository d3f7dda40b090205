"""Folders of several files that are written as one: all of them new, or no result at all.

The last file, the seal, holds the digests of the others. Everything is first written under other
names. The old seal is then taken away, the files move into place, and the new seal comes last: a
kill leaves the old result, or a folder without a seal, or the new one. A file of another save
does not have the digest that the seal tells.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.io import atomic_path, sha256

FILES = "files"


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
        whole = dict(content) | {FILES: digests}
        last.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
        (folder / seal).unlink(missing_ok=True)
    return folder


def read_seal(folder: Path, seal: str, *, what: str, fix: str) -> dict[str, Any]:
    """What the seal holds, after the other files have been checked against it.

    Args: what: `result`, say, for messages. fix: how one is made.
    Raises: ResultError when the folder is not whole.
    """
    if not (folder / seal).is_file():
        why = f"it has no {seal}" if folder.is_dir() else "there is no such folder"
        raise ResultError(f"{folder} holds no {what}", why, fix)
    try:
        whole = json.loads((folder / seal).read_text())
        if not isinstance(whole, dict):
            raise ValueError(f"{seal} is no mapping")
        digests = whole.pop(FILES, {})
        wrong = [name for name, digest in digests.items() if sha256(folder / name) != digest]
    except (OSError, ValueError) as error:
        raise ResultError(f"the {what} in {folder} cannot be read", str(error), fix) from error
    if wrong:
        raise ResultError(
            f"the {what} in {folder} is not whole",
            f"{', '.join(wrong)} is not the file that {seal} was written with",
            fix,
        )
    return whole
