"""Changes modules of the package, one thing at a time, and counts the changes that no test notices.

`python -m tests.mutants whitebox_probe/stats/intervals.py --jobs 2`: each mutant is tried on
the tests that run its line (found by coverage), quick ones first. Those that survive are printed,
and all are written with `--out`. The exit status is 1 where any survives.
"""

import argparse
import csv
import os
import pickle
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.mutants.harness import ROOT, Job, anew, serve, tests_of, warm
from tests.mutants.operators import mutants

TESTS = {  # folder of the package -> its tests
    "stats": ["tests/stats"],
    "metrics": ["tests/metrics", "tests/golden", "tests/contract/test_every_metric.py"],
    "auditing": [f"tests/auditing/test_{name}.py" for name in ("claims", "rules", "judge")],
}
COLUMNS = ("file", "line", "before", "after", "outcome", "by", "seconds")


def _files(given: list[str]) -> list[Path]:
    found = []
    for each in map(Path, given):
        whole = sorted(each.rglob("*.py")) if each.is_dir() else [each]
        found += [file.resolve().relative_to(ROOT) for file in whole if file.name != "__init__.py"]
    return found


@dataclass
class Tally:
    """Every mutant that is tried, and what became of it."""

    rows: dict[int, list] = field(default_factory=dict)
    later: list[Job] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def told(self, index: int, outcome: str, by: str, seconds: float) -> None:
        """One that was tried."""
        self.counts[outcome] += 1
        self.rows[index] += [outcome, by, f"{seconds:.1f}"]
        if outcome != "killed":
            file, line, before, after = self.rows[index][:4]
            print(f"{file}:{line}: {before}  ->  {after}  {outcome}", flush=True)


def _plan(files: list[Path], args: argparse.Namespace, tally: Tally, known: dict) -> list[Job]:
    """Mutants of functions; those of all else are kept for later."""
    if known["failed"]:
        print(f"tests fail as they are: {', '.join(known['failed'][:3])}", flush=True)
        sys.exit(2)
    drawn = random.Random(args.seed)
    wanted = None if args.again is None else _survivors(Path(args.again))
    jobs = []
    for file in files:
        every = mutants(file.read_text())
        if wanted is not None:
            every = [m for m in every if (str(file), str(m.line), m.before, m.after) in wanted]
        elif args.most is not None and len(every) > args.most:
            every = sorted(drawn.sample(every, args.most), key=lambda each: each.line)
        for each in every:
            order = tests_of(known, file, each.line, most=args.seconds, last=args.last)
            limit = 20 + 6 * sum(known["seconds"][name] for name in order)
            index = len(tally.rows)
            tally.rows[index] = [str(file), each.line, each.before, each.after]
            if not order:
                tally.told(index, "survived", "no test", 0.0)
                continue
            into = jobs if each.inside else tally.later
            into.append(Job(index, file, each, order, limit))
    print(f"{len(tally.rows)} mutants, {len(known['seconds'])} tests", flush=True)
    return jobs


def _survivors(file: Path) -> set[tuple[str, ...]]:
    with file.open(newline="") as held:
        return {
            (each["file"], each["line"], each["before"], each["after"])
            for each in csv.DictReader(held)
            if each["outcome"] == "survived"
        }


def main() -> int:
    """Mutants of the named files or folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="modules or folders of the package")
    parser.add_argument("--most", type=int, help="mutants a module, drawn by --seed (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests a mutant, at most")
    parser.add_argument("--tests", nargs="*", help="in place of those of the folder")
    parser.add_argument("--last", nargs="*", default=[], help="tests that are tried after others")
    parser.add_argument("--again", metavar="CSV", help="only those that survived there")
    parser.add_argument("--out", metavar="CSV", help="every mutant, and what became of it")
    args = parser.parse_args()
    os.chdir(ROOT)
    files = _files(args.files)
    rooms = dict.fromkeys(each.parts[1] for each in files)
    tests = args.tests or [place for room in rooms for place in TESTS[room]]
    warm()
    tally = Tally()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        pid = os.fork()
        if not pid:
            serve(
                tests,
                files,
                scratch,
                partial(_plan, files, args, tally),
                tally.told,
                at_once=args.jobs,
            )
            (scratch / "tally").write_bytes(pickle.dumps(tally))
            os._exit(0)
        os.waitpid(pid, 0)
        if not (scratch / "tally").exists():
            return 2
        tally = pickle.loads((scratch / "tally").read_bytes())
        anew(tally.later, scratch, tally.told, at_once=args.jobs)
    print(", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.counts.items())))
    if args.out:
        with Path(args.out).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(row for row in tally.rows.values() if len(row) == len(COLUMNS))
    return int(tally.counts["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
