"""`python -m whitebox_probe.training`: train by the recipe, or test a finished run."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import NoReturn

from whitebox_probe._core import importing, stopping
from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe._core.gate import is_file
from whitebox_probe._core.io import claimed
from whitebox_probe._core.lines import shown
from whitebox_probe._core.memory import is_lack
from whitebox_probe._core.words import expect_values, path
from whitebox_probe.training.recipe import KINDS, TEXT_KINDS, Recipe, TextRecipe

RECIPES = (Recipe, TextRecipe)
MOST_THREADS = 256


class _Parser(argparse.ArgumentParser):
    """What is wrong with the words, in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(2, f"{self.prog}: error: {shown(message, 300)}. Run: {self.prog} --help\n")


def _say(text: str) -> None:
    """Print what a command found.

    Raises: OSError that names standard output.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m whitebox_probe.training",
        description="Train by the recipe of the shipped models: a CRATE or a ViT on Fashion-MNIST, "
        "or a CRATE language model or a GPT-2 on the King James Version.",
        epilog="Then: python -m whitebox_probe.training test OUT",
    )
    parser.add_argument("what", choices=[*KINDS, *TEXT_KINDS, "test"], help="or 'test' a run")
    parser.add_argument("run", nargs="?", type=path, help="folder of the finished run to test")
    parser.add_argument("--out", type=path, help="folder of the run")
    parser.add_argument(
        "--data",
        type=path,
        help="folder of the four idx.gz files, or file of what Debian's bible-kjv prints "
        "(default: what is installed)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    images, text = ({f.name: f.default for f in dataclasses.fields(r)} for r in RECIPES)
    for name, default in (images | text).items():
        if name == "kind":
            continue
        told = [
            f"{options[name]} for {what}"
            for what, options in (("images", images), ("text", text))
            if name in options
        ]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int if name == "limit_train" else type(default),
            help=f"(default: {', '.join(told)})",
        )
    return parser


@stopping.answered()
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    args = argparse.Namespace(out=None)
    try:
        expect_values(sys.argv[1:] if argv is None else argv)
        return _run(parser.parse_args(argv, args), parser)
    except ProbeError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        stopping.heard()
        told = "stopped; whole epochs are kept, and --resume goes on behind the last"
        print(f"\n{parser.prog}: {told}", file=sys.stderr)
        return stopping.status(stop)
    except Exception as error:
        told = _of_place(error, args.out)
        if not told:
            raise
        print(f"{parser.prog}: error: {told}", file=sys.stderr)
        return 2


def _of_place(error: Exception, out: Path | None) -> str:
    """What a library, the memory or a disk said, in one line; "" for any other error."""
    if failed := importing.as_told(error):
        return str(failed)
    if is_lack(error):
        return "a step does not fit into memory. Use a smaller --batch-size, or smaller sizes"
    if isinstance(error, OSError) and error.strerror:  # what else is read has its own errors
        where = shown(error.filename or out)
        return f"{where} cannot be written: {error.strerror}. Check that place"
    return ""


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import torch

    from whitebox_probe.training.files import LOG, read_log
    from whitebox_probe.training.loop import load_data, measure_on_test, train
    from whitebox_probe.training.text import load_text, measure_on_held_out, train_text

    if not 1 <= args.threads <= MOST_THREADS:
        parser.error(f"--threads is a number from 1 to {MOST_THREADS}")
    torch.set_num_threads(args.threads)
    if args.what == "test":
        if args.run is None:
            parser.error("test needs the folder of a finished run")
        kind = read_log(args.run)["recipe"].get("kind") if is_file(args.run / LOG) else KINDS[0]
        measure = measure_on_held_out if kind in TEXT_KINDS else measure_on_test
        _say(json.dumps(measure(args.run, args.data), indent=1))
        return 0
    if args.out is None:
        parser.error("--out is needed: the folder that the run is written to")
    named = {f.name for r in RECIPES for f in dataclasses.fields(r)} - {"kind"}
    given = {name: value for name in named if (value := getattr(args, name)) is not None}
    how = {"resume": args.resume, "progress": not args.quiet}
    of_text = args.what in TEXT_KINDS
    strange = given.keys() - {f.name for f in dataclasses.fields(RECIPES[of_text])}
    if strange:
        parser.error(f"a {args.what} has no --{min(strange).replace('_', '-')}")
    with claimed(args.out) as ours:
        if not ours:
            raise CheckpointError(
                f"another process trains in {args.out}",
                "two would write the same files",
                "Wait for it, or use another --out",
            )
        if of_text:
            text = TextRecipe(kind=args.what, **given)
            log = train_text(text, load_text(text, args.data), args.out, **how)
        else:
            images = Recipe(kind=args.what, **given)
            log = train(images, load_data(images, args.data), args.out, **how)
    last = log["epochs"][-1]
    found = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in last.items()
        if name.startswith("validation")
    )
    _say(f"{found}, {len(log['epochs'])} epochs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
