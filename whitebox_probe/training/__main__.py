"""`python -m whitebox_probe.training`: train by the recipe, or test a finished run."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.training.recipe import KINDS, Recipe


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m whitebox_probe.training",
        description="Train a CRATE or a ViT on Fashion-MNIST by the recipe of the shipped models.",
        epilog="Then: python -m whitebox_probe.training test OUT",
    )
    parser.add_argument("what", choices=[*KINDS, "test"], help="what to train, or 'test' a run")
    parser.add_argument("run", nargs="?", type=Path, help="folder of the finished run to test")
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--data", type=Path, help="folder of the four idx.gz files")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    for field in dataclasses.fields(Recipe):
        if field.name == "kind":
            continue
        kind = int if field.name == "limit_train" else type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=field.default,
            help=f"(default: {field.default})",
        )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return _run(args, parser)
    except ProbeError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import torch

    from whitebox_probe.training.loop import load_data, measure_on_test, train

    torch.set_num_threads(args.threads)
    if args.what == "test":
        if args.run is None:
            parser.error("test needs the folder of a finished run")
        print(json.dumps(measure_on_test(args.run, args.data), indent=1))
        return 0
    if args.out is None:
        parser.error("--out is needed: the folder that the run is written to")
    names = [field.name for field in dataclasses.fields(Recipe) if field.name != "kind"]
    recipe = Recipe(kind=args.what, **{name: getattr(args, name) for name in names})
    log = train(
        recipe,
        load_data(recipe, args.data),
        args.out,
        resume=args.resume,
        progress=not args.quiet,
    )
    epochs = log["epochs"]
    print(f"validation accuracy {epochs[-1]['validation_accuracy']:.4f}, {len(epochs)} epochs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
