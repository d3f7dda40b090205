"""Changes modules of the package, one thing at a time, and counts the changes that no test notices.

`python -m tests.mutants whitebox_probe/stats/intervals.py --minutes 10`: each mutant is tried on
the tests that run its line (found by coverage), quick ones first. Those that survive are printed,
and all are written with `--out`. The exit status is 1 where any survives.
"""

import argparse
import csv
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.harness import ROOT, covering, each_tried, tests_of, warm
from tests.mutants.operators import mutants

TESTS = {  # folder of the package -> its tests
    "stats": ["tests/stats"],
    "metrics": ["tests/metrics", "tests/golden", "tests/contract/test_every_metric.py"],
    "auditing": ["tests/auditing/test_judge.py", "tests/auditing/test_rules.py"],
}
COLUMNS = ("file", "line", "before", "after", "outcome", "by", "seconds")


def _files(given: list[str]) -> list[Path]:
    found = []
    for each in map(Path, given):
        whole = sorted(each.rglob("*.py")) if each.is_dir() else [each]
        found += [file.resolve().relative_to(ROOT) for file in whole if file.name != "__init__.py"]
    return found


def _jobs(files: list[Path], known: dict, args: argparse.Namespace) -> tuple[list, list]:
    rows, jobs = [], []
    chosen = random.Random(args.seed)
    wanted = None if args.again is None else _survivors(Path(args.again))
    for file in files:
        source = file.read_text()
        every = mutants(source)
        if wanted is not None:
            every = [m for m in every if (str(file), m.before, m.after) in wanted]
        elif args.most is not None and len(every) > args.most:
            every = sorted(chosen.sample(every, args.most), key=lambda each: each.line)
        for each in every:
            order = tests_of(known, file, each.line, args.seconds)
            if order:
                limit = 30 + 5 * sum(known["seconds"][name] for name in order)
                jobs.append((file, each, order, limit))
                rows.append([str(file), each.line, each.before, each.after])
    return rows, jobs


def _survivors(file: Path) -> set[tuple[str, str, str]]:
    with file.open(newline="") as held:
        rows = csv.DictReader(held)
        return {
            (each["file"], each["before"], each["after"])
            for each in rows
            if each["outcome"] == "survived"
        }


def main() -> int:
    """Mutants of the named files or folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="modules or folders of the package")
    parser.add_argument("--minutes", type=float, default=600.0, help="for all mutants")
    parser.add_argument("--most", type=int, help="mutants a module, drawn by --seed (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests a mutant, at most")
    parser.add_argument("--tests", nargs="*", help="in place of those of the folder")
    parser.add_argument("--again", metavar="CSV", help="only those that survived there")
    parser.add_argument("--out", metavar="CSV", help="every mutant, and what became of it")
    args = parser.parse_args()
    files = _files(args.files)
    rooms = dict.fromkeys(each.parts[1] for each in files)
    tests = args.tests or [place for room in rooms for place in TESTS[room] if Path(place).exists()]
    warm()
    counts = {"killed": 0, "survived": 0, "timed out": 0}
    with tempfile.TemporaryDirectory() as place:
        known = covering(files, tests, Path(place))
        if known["code"]:
            print("the tests fail as they are", file=sys.stderr)
            return 2
        rows, jobs = _jobs(files, known, args)
        print(f"{len(jobs)} mutants, {len(known['seconds'])} tests", flush=True)

        def told(index: int, found: dict) -> None:
            outcome = {0: "survived", -2: "timed out"}.get(found["code"], "killed")
            counts[outcome] += 1
            rows[index] += [outcome, found.get("by", ""), f"{found['seconds']:.1f}"]
            if outcome != "killed":
                file, line, before, after = rows[index][:4]
                print(f"{file}:{line}: {before}  ->  {after}  {outcome}", flush=True)

        ends = time.monotonic() + 60 * args.minutes
        each_tried(jobs, Path(place), at_once=args.jobs, ends=ends, told=told)
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if args.out:
        with Path(args.out).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(row for row in rows if len(row) == len(COLUMNS))
    return int(counts["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
