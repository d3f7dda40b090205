"""The models and data that a sweep's file names, each with a name, and paths as from anywhere."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import SweepError
from whitebox_probe._core.gate import Unfit, given_path
from whitebox_probe._core.lines import shown

_ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".gz")
_LIBRARIES = ("timm:", "hf:")
_PATHS = ("arch", "mapping")


def models(stated: Any, base: Path) -> list[dict[str, Any]]:
    """Every model, by the arguments of `load`; a pattern of files stands for each of them.

    Args: base: the folder that relative paths start at.
    Raises: SweepError for two of one name, or a pattern that fits no file.
    """
    found = []
    for each in stated if isinstance(stated, list) else [stated]:
        one = {"model": each} if isinstance(each, str) else dict(each)
        paths = {name: _placed(one[name], base) for name in _PATHS if name in one}
        for source in _each_model(one["model"], base):
            name = named(source) if _is_pattern(one["model"]) else one.get("name", named(source))
            found.append({"weights": "pretrained", **one, **paths, "model": source, "name": name})
    _expect_names(found, "models")
    return found


def data(stated: Any, base: Path) -> list[dict[str, Any]]:
    """Every data set, by the arguments of `wp.data`.

    Raises: SweepError for two of one name.
    """
    from whitebox_probe.data.names import path_of

    found = []
    for each in stated if isinstance(stated, list) else [stated]:
        one = {"data": each} if isinstance(each, str) else dict(each)
        path = path_of(one["data"])
        name = one["data"] if path is None else path.name
        if path is not None and _is_path(one["data"], base):
            one["data"] = _absolute(one["data"], base)
        found.append({"name": name, **one})
    _expect_names(found, "data")
    return found


def named(text: str) -> str:
    """What a model is called: a file's or folder's name without its ending.

    >>> named("runs/epoch-01.safetensors"), named("timm:vit_tiny"), named("crate-tiny-fmnist")
    ('epoch-01', 'timm:vit_tiny', 'crate-tiny-fmnist')
    """
    name = text if text.startswith(_LIBRARIES) else Path(text).name
    while name.endswith(_ENDINGS):
        name = name.rpartition(".")[0]
    return name


def _each_model(text: str, base: Path) -> Iterator[str]:
    if not _is_pattern(text):
        yield _placed(text, base)
        return
    found = sorted(glob.glob(_absolute(text, base), recursive=True))
    if not found:
        raise SweepError(f"no file fits {text}", f"it was looked for in {base}", "Check the path")
    yield from found


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not text.startswith(_LIBRARIES)


def _placed(text: str, base: Path) -> str:
    """A path as it is from anywhere; what is no path stays as it is."""
    from whitebox_probe import checkpoints
    from whitebox_probe.models.factory import is_reference

    if text.startswith(_LIBRARIES) or text in checkpoints.registry():
        return text
    if is_reference(text):
        where, _, what = text.rpartition(":")
        return f"{_absolute(where, base)}:{what}" if where.endswith(".py") else text
    return _absolute(text, base) if Path(_absolute(text, base)).exists() else text


def _is_path(text: str, base: Path) -> bool:
    """Whether a text that is no known name is a path, and not a name with a slip in it."""
    shown = os.sep in text or any(sign in text for sign in "*?[{")
    return shown or Path(_absolute(text, base)).exists()


def _absolute(text: str, base: Path) -> str:
    try:
        return str((base / given_path(text)).absolute())
    except Unfit as why:
        raise SweepError(f"{shown(text)} cannot be used", str(why), "Mend the path") from why


def _expect_names(found: Sequence[Mapping[str, Any]], what: str) -> None:
    names = [each["name"] for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SweepError(
            f"two of the {what} are called '{twice}'",
            "cells are told apart by names",
            "Add name: to one of them",
        )
