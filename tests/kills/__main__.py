"""Kills commands at random points, lets them go on, and counts what became of their results.

`python -m tests.kills --command run --signal KILL --points 50 --seed 0`; with `--signal full` the
disk is full instead, and with `--torchrun 2` so many processes share the command. The exit status
is 1 for any fault.
"""

import argparse
import os
import signal
import sys
import time
from functools import cache
from random import Random

from tests.kills.harness import COMMANDS, PAGE, Bench, Counts, Point, bench, drawn, tried
from tests.kills.processes import cold as started

SIGNALS = ("KILL", "TERM", "INT", "full")


def kills(at: Bench, name: str, act: str, *, count: int, seed: int, processes: int = 1,
          cold: bool = False, minutes: float = 60.0) -> Counts:  # fmt: skip
    """So many points of a command, or those that so many minutes allow."""
    end = time.monotonic() + 60 * minutes
    random, counts = Random(f"{name} {act} {seed} {processes}"), Counts()
    for number in range(count):
        over = number % 2 == 1
        known = at.known(COMMANDS[name], over=over)
        if act == "full":
            point = Point(act, over, step=random.randint(1, known.steps))
            if number % 6 >= 4 and can_mount():
                whole = sum(map(len, known.files.values()))
                point = Point(act, over, room=int(whole * random.random()) // PAGE * PAGE)
            elif number % 6 == 2:  # readers of samples have files too, in memory: none of them here
                biggest = max(len(each) for each in known.files.values())
                point = Point(act, over, most=600 + int(biggest ** random.random()))
        elif processes > 1 or cold:
            after = random.uniform(0.05, 1.0) * from_nothing(at, name, processes)
            group = random.random() < 0.5 and processes == 1
            point = Point(act, over, after=after, group=group, processes=processes, cold=True)
        else:
            point = drawn(random, known, act, over=over)
        tried(at, COMMANDS[name], point, counts)
        if time.monotonic() > end:
            break
    return counts


@cache
def from_nothing(at: Bench, name: str, processes: int) -> float:
    """Seconds that an undisturbed command takes, where nothing is warm."""
    command = COMMANDS[name]
    place = at.folder(at.known(command, over=False).start)
    ended = started(command.words(False), place, processes=processes)
    assert ended.status == 0, ended
    return ended.seconds


def can_mount() -> bool:
    """Whether small disks can be made here."""
    return sys.platform == "linux" and os.geteuid() == 0


def main() -> int:
    """Every command and signal that is named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--command", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    add("--signal", nargs="*", choices=SIGNALS, default=list(SIGNALS))
    add("--points", type=int, default=50, help="of each command and signal")
    add("--minutes", type=float, default=60.0, help="at most, for each command and signal")
    add("--torchrun", type=int, default=1, metavar="N", help="processes that share `run`")
    add("--cold", action="store_true", help="start every command from nothing")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    # What a shell starts in the background ignores Ctrl-C, and so would all that is started here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    faults = 0
    with bench() as at:
        for name in args.command:
            for act in args.signal:
                counts = kills(
                    at,
                    name,
                    act,
                    count=args.points,
                    seed=args.seed,
                    processes=args.torchrun,
                    cold=args.cold,
                    minutes=args.minutes,
                )
                for fault in counts.faults:
                    print(f"  {fault}\n")
                print(counts.line(f"{name} {act}"), flush=True)
                faults += len(counts.faults)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
