"""Tries hostile inputs of every kind for some time, and counts what became of them.

`python -m tests.fuzz checkpoints results --minutes 3 --seed 1`; the exit status is 1 for any fault.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.harness import Counts, judge
from tests.fuzz.kinds import KINDS, Folder


def tried(kind: str, *, seed: int, minutes: float, most: int | None = None) -> Counts:
    """Inputs of a kind for so long, or so many."""
    counts = Counts()
    with tempfile.TemporaryDirectory() as place:
        names, before = ("WHITEBOX_PROBE_REGISTRY", "HF_HUB_OFFLINE"), os.getcwd()
        usual = {name: os.environ.get(name) for name in names}
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.chdir(place)
        try:
            at = Folder(Path(place))
            end = time.monotonic() + 60 * minutes
            for case in KINDS[kind](Random(f"{kind} {seed}"), at):
                judge(case, counts, at.canary)
                if time.monotonic() > end or counts.tried == most:
                    break
        finally:
            os.chdir(before)
            for name, value in usual.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
    return counts


def main() -> int:
    """Every kind that is named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faults = 0
    for kind in args.kinds or KINDS:
        counts = tried(kind, seed=args.seed, minutes=args.minutes)
        for fault in counts.faults:
            print(f"  {fault}\n")
        print(counts.line(kind), flush=True)
        faults += len(counts.faults)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
