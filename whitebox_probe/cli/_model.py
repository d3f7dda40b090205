"""The options that say which model, and how it is loaded: what `run` and `audit` share."""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from whitebox_probe._core.errors import ArchitectureError, CheckpointError, ProbeError
from whitebox_probe.cli import _completing, _shared

if TYPE_CHECKING:
    from whitebox_probe.models.model import ProbeModel

# What `models/factory.py` takes, which this does not import.
_PYTHON = re.compile(r"(?!(?:timm|hf|text):)(?:.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
_FILES = frozenset({".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors"})


def add_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what a file does not hold, and which weights are meant."""
    group = parser.add_argument_group("the model")
    add = group.add_argument
    arch = add(
        "--arch",
        type=_shared.name_or_path,
        help="architecture of a file: whitebox-probe list --architectures, timm:NAME, or what "
        "makes the network, as model.py:make (its code is run)",
    )
    _completing.by(arch, "architectures")
    mapping = add(
        "--mapping",
        type=_shared.name_or_path,
        metavar="NAME",
        help="where the sites of what model.py:make makes are: whitebox-probe list --mappings, or "
        "a .yaml file (default: by its class)",
    )
    _completing.by(mapping, "mappings", files=True)
    add(
        "--set",
        dest="settings",
        action="append",
        type=_shared.setting,
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the network, as heads=6; again for each (default: the entry's own)",
    )
    add(
        "--preprocess",
        type=_shared.name_or_path,
        metavar="NAME",
        help="how data are prepared for a file: imagenet, as a checkpoint of the registry, or "
        "text:TOKENIZER@LENGTH, such as text:bytes@128 (default: the model's own)",
    )
    add("--wrapper", metavar="KEY", help="key of the weights, in a file that holds several sets")
    add(
        "--weights",
        choices=("pretrained", "random"),
        default="pretrained",
        help="random: the same architecture, untrained, drawn by --seed",
    )
    return group


def is_python(model: str) -> bool:
    """Whether a model is named by what makes it, as model.py:make; told without torch."""
    return _PYTHON.fullmatch(model) is not None


def loaded(name: str, args: argparse.Namespace, *, progress: bool) -> "ProbeModel":
    """The model of that name or file, by the options.

    Raises: ProbeError; CheckpointError that names the options which a file leaves open.
    """
    from whitebox_probe.models.load import load

    try:
        return load(
            name,
            arch=args.arch,
            weights=args.weights,
            wrapper=args.wrapper,
            preprocess=args.preprocess,
            mapping=args.mapping,
            seed=args.seed,
            progress=progress,
            **_shared.settings(args.settings, load),
        )
    except ArchitectureError as error:
        told = " ".join(f"--set {k}={' or '.join(map(str, v))}" for k, v in error.choices.items())
        raise CheckpointError(error.what, error.why, f"Add {told}, or --arch") from error


def expect_path(text: str) -> None:
    """Refuse what is the name of nothing on any machine.

    Raises: ProbeError.
    """
    try:
        os.stat(text)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds a character of no name"
        raise ProbeError(f"there is no {text}", str(why), "Check the name") from error


def known(model: str, arch: str | None) -> None:
    """Tell a wrong name at once, before torch is loaded."""
    expect_path(model)
    if arch is not None or Path(model).exists() or is_python(model):
        return
    if "/" in model or Path(model).suffix in _FILES:
        if not model.startswith(_shared.LIBRARIES):
            raise ProbeError(
                f"there is no file {model}",
                "there is a link of that name, to nothing"
                if Path(model).is_symlink()
                else "a path was given as the model",
                "Check the path; whitebox-probe list gives the names",
            )
    else:
        _shared.named(model)
