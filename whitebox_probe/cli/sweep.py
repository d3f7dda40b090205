"""Measure every combination of models, data and settings that a YAML file names.

Each combination is a cell, with a folder of its own in DIR/cells, as `run` writes it. Cells that
are done are not measured again, one that was stopped goes on, and one that fails leaves the others
alone: the same command goes on with a sweep. What a cell is told by is all that its numbers depend
on; a file of weights that has changed is another cell.

Writes summary.csv and summary.parquet (every number of every cell, beside what varies) and
cells.csv (one row a cell) in DIR. Draw cells with: whitebox-probe plot DIR/cells/*

Cells run one after the other, or with --engine ray or slurm several at a time, here or on a cluster
(docs/sweep.md describes the file and the engines). Exit status: 0 if all cells are done, 2 if some
failed for their input or were lost, 1 if one failed for a fault of the program.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from whitebox_probe.cli import _screen, _shared

if TYPE_CHECKING:
    from whitebox_probe.sweeping.sweep import Done, Sweep

HELP = "many models, data and settings from one file, resumable"
EXAMPLES = (
    "sweep sweep.yaml",
    "sweep sweep.yaml --dry-run",
    "sweep sweep.yaml --only 'crate*' --out runs/sweep",
    "sweep sweep.yaml --retry-failed",
    "sweep sweep.yaml --engine ray --workers 4",
)
_FAULT, _INPUT = 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "file",
        type=_shared.name_or_path,
        metavar="FILE",
        help="YAML file of models, data and settings (docs/sweep.md)",
    )
    add(
        "--out",
        type=_shared.place,
        metavar="DIR",
        help="folder of the sweep (default: the file's own)",
    )
    add("--engine", metavar="NAME", help="serial, ray or slurm (default: the file's, or serial)")
    add("--workers", type=_shared.count, metavar="N", help="cells at a time, of ray and slurm")
    add(
        "--threads",
        type=_shared.count,
        metavar="N",
        help="of torch, for each cell; with as many, every engine gives the same numbers",
    )
    add("--only", metavar="GLOB", help="cells whose names are like this, such as 'vit*'")
    add("--retry-failed", action="store_true", help="measure cells that failed once more")
    add("--dry-run", action="store_true", help="list the cells and how far they are, and stop")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from whitebox_probe.sweeping import sweep as sweeping

    if args.dry_run:
        plan = sweeping.planned(args.file, out=args.out)
        _tell(plan.sweep, [c for c in plan.sweep.cells if sweeping.fits(c, args.only)])
        return 0
    if args.out is not None:
        _shared.writable(args.out)
    found = sweeping.sweep(
        args.file,
        out=args.out,
        engine=args.engine,
        workers=args.workers,
        threads=args.threads,
        only=args.only,
        retry_failed=args.retry_failed,
        progress=not args.quiet,
        ended=None if args.quiet else _ended,
    )
    _tell(found, found.cells)
    for name in ("summary.csv", "cells.csv"):
        _screen.say(f"{'every number' if name[0] == 's' else 'every cell'}: {found.folder / name}")
    chosen = [each for each in found.cells if sweeping.fits(each, args.only)]
    return _status(chosen)


def _ended(each: "Done", number: int, count: int) -> None:
    """A line a cell, as it ends."""
    seconds = "" if each.run is None else f", {each.run.seconds:.1f} s"
    _screen.say(f"{number} of {count}: {each.name}: {each.state}{seconds}")
    for note in each.notes:
        _screen.say(f"  note: {note}")
    sys.stdout.flush()


def _tell(found: "Sweep", cells: "list[Done] | tuple[Done, ...]") -> None:
    """The table of the cells, why some have no result, and how many there are."""
    from whitebox_probe.cli import _sweep_table
    from whitebox_probe.sweeping.sweep import others_in, told_states

    print()
    _sweep_table.show(cells)
    for each in cells:
        if each.failure is not None:
            _screen.say("", f"{each.state}: {each.name}", f"  {each.failure.line}")
            if each.failure.fault:
                where = each.folder / "failed.json"
                _screen.say(f"  a fault of the program; please report {where}")
    print(f"\n{told_states(cells)}")
    if any(each.state == "failed" for each in cells):
        print("Those that failed are measured once more with --retry-failed")
    if others := others_in(found):
        held = f"{found.folder / 'cells'} holds {others} more"
        _screen.say(f"{held}, of an earlier file: not in the table")


def _status(cells: "list[Done]") -> int:
    if any(each.failure is not None and each.failure.fault for each in cells):
        return _FAULT
    return 0 if all(each.state == "done" for each in cells) else _INPUT
