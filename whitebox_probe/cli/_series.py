"""Several checkpoints in one `run`: a folder each, named by the checkpoint."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _model

_NO_NAME = re.compile(r"[^\w.-]+")
_ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".gz")


def name_of(model: str) -> str:
    """What a checkpoint is called in tables, and its folder: a file's name without its ending.

    >>> name_of("runs/epoch-01.safetensors"), name_of("model_0.5.pth.tar"), name_of("hf:a/b")
    ('epoch-01', 'model_0.5', 'hf-a-b')
    """
    here = Path(model)
    name = here.name if here.exists() or here.suffix in _ENDINGS else model
    while name.endswith(_ENDINGS):
        name = name.rpartition(".")[0]
    return _NO_NAME.sub("-", name).strip("-")


def split(
    args: argparse.Namespace, check: Callable[[argparse.Namespace], None]
) -> list[argparse.Namespace]:
    """The arguments of each checkpoint's own run, all of them checked before the first.

    Raises: ProbeError for two of one name, and what is said of one run alone.
    """
    models = [args.model, *args.more]
    for option, value in (("--resume", args.resume), ("--name", args.name)):
        if value is not None:
            raise ProbeError(
                f"{option} is given with {len(models)} models",
                "it is of one run",
                "Name its model alone" if option == "--name" else "Give it alone, with DIR/NAME",
            )
    if args.out is None:
        raise ProbeError("--out must be given", "each model's folder is in it", "Name a folder")
    names = [name_of(model) for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ProbeError(
            f"two of the models are called '{twice}'",
            "their folders would have one name",
            "Rename a file, or run them with another --out",
        )
    found = []
    for model, name in zip(models, names, strict=True):
        _model.known(model, args.arch)
        given = vars(args) | {"model": model, "more": [], "name": name, "out": args.out / name}
        found.append(argparse.Namespace(**given))
        check(found[-1])
    return found
