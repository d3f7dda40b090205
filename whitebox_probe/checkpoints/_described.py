"""Where a checkpoint's file comes from and belongs, and whether a file is the one described."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe._core.gate import Unfit
from whitebox_probe._core.io import sha256
from whitebox_probe.checkpoints._network import is_of_network
from whitebox_probe.checkpoints._registry import Checkpoint, path_in

CACHE_VARIABLE = "WHITEBOX_PROBE_CACHE"
_NOTE = 90  # characters of an entry's note in an error
PAGE = "it is a web page, as a dead link or a download quota answers"


def cache_dir() -> Path:
    """The folder of downloaded files: the user's cache, or WHITEBOX_PROBE_CACHE."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return path_in(CACHE_VARIABLE, own)
    import platformdirs

    return Path(platformdirs.user_cache_dir("whitebox-probe", appauthor=False))


def cached_path(checkpoint: Checkpoint) -> Path:
    """Where a downloaded file lies, or where a user puts one by hand."""
    source = checkpoint.source
    named = source.get("filename") or source.get("file") or source.get("member")
    return cache_dir() / checkpoint.name / Path(named or "model.safetensors").name


def origin(checkpoint: Checkpoint) -> str:
    """Where the file comes from, for messages."""
    source = checkpoint.source
    match source["kind"]:
        case "url":
            return str(source["url"])
        case "gdrive":
            return f"https://drive.google.com/uc?id={source['id']}"
        case "huggingface":
            at = f" at {source['revision']}" if source["revision"] else ""
            named = f", {source['file']}{at}" if "file" in source else ""
            return f"huggingface.co/{source['repo']}{named}"
        case "timm":
            return f"huggingface.co/timm/{source['name']}"
        case "wheel":
            return f"{source['member']} in the wheel {source['package']}=={source['version']}"
        case _:
            return str(source.get("file") or source.get("path"))


def fault(checkpoint: Checkpoint, path: Path) -> str:
    """Why a file is not the one that the registry describes; empty if it is."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    if _is_page(path):
        return PAGE
    if checkpoint.size is not None and size != checkpoint.size:
        return f"it has {size} bytes and the registry says {checkpoint.size}"
    if checkpoint.sha256 is not None and (got := sha256(path)) != checkpoint.sha256:
        return f"its sha256 is {got} and the registry says {checkpoint.sha256}"
    return ""


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml"))


def wrong(checkpoint: Checkpoint, why: str, fix: str) -> CheckpointError:
    """The error of a file that is not the one that the registry describes."""
    return CheckpointError(
        f"the file of '{checkpoint.name}' from {origin(checkpoint)} is not the checkpoint", why, fix
    )


def expect_sound(checkpoint: Checkpoint, path: Path) -> None:
    """Check what was downloaded, before it is kept.

    Raises: CheckpointError if it is not the file that the registry describes.
    """
    if why := fault(checkpoint, path):
        raise wrong(checkpoint, why, another_way(checkpoint))


def another_way(checkpoint: Checkpoint) -> str:
    """What to do with a file that cannot be fetched."""
    return f"Get the file another way and put it at {cached_path(checkpoint)}"


def failed(checkpoint: Checkpoint, why: object) -> CheckpointError:
    """The error of a file that could not be fetched."""
    note = (
        f" (note: {shorten(checkpoint.note, _NOTE, placeholder=' …')})" if checkpoint.note else ""
    )
    return CheckpointError(
        f"'{checkpoint.name}' could not be fetched from {origin(checkpoint)}",
        f"{why}{note}",
        another_way(checkpoint),
    )


@contextmanager
def told(checkpoint: Checkpoint) -> Iterator[None]:
    """Tell errors of the network, whichever library they are from, as ours; others pass."""
    try:
        yield
    except Unfit as why:
        raise failed(checkpoint, why) from why
    except Exception as error:
        if isinstance(error, ProbeError) or not is_of_network(error):
            raise
        raise failed(checkpoint, f"{type(error).__name__}: {error}") from error
