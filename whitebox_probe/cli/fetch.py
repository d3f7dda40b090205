"""Bring checkpoints to this machine, checked against their hash where the registry has one."""

import argparse

from whitebox_probe.cli import _shared

HELP = "download a checkpoint, checked against its hash"
EXAMPLES = ("fetch crate-small-in1k", "fetch vit-small-in1k vit-base-in1k")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="checkpoints of the registry")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import checkpoints

    for entry in [checkpoints.entry(name) for name in args.names]:
        print(f"{entry.name}: {checkpoints.fetch(entry, progress=not args.quiet)}")
