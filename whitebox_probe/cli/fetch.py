"""Bring checkpoints to this machine, checked against their hash where the registry has one.

A file that is here already is checked again and not downloaded. Without a network, the error says
where to put a file that you got another way. Prints the path of each.
"""

import argparse

from whitebox_probe.cli import _completing, _screen, _shared

HELP = "download a checkpoint, checked against its hash"
EXAMPLES = (
    "fetch vit-small-in1k vit-base-in1k",
    "fetch timm:vit_small_patch16_224.augreg_in1k",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    kinds = "checkpoint of the registry, or timm:NAME"
    given = _shared.name_or_path
    named = parser.add_argument("names", nargs="+", type=given, metavar="NAME", help=kinds)
    _completing.by(named, "checkpoints")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import checkpoints

    for entry in [_shared.named(name) for name in args.names]:
        _screen.say(f"{entry.name}: {checkpoints.fetch(entry, progress=not args.quiet)}")
