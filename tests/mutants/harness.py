"""Runs tests on mutants, each in a process forked from one that has the slow imports behind it."""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.mutants.operators import Mutant

ROOT = Path(__file__).parents[2]
OPTIONS = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what `warm` imports


SLOW = ("hypothesis.strategies", "pandas", "pytest", "scipy.optimize", "scipy.stats", "timm")
SLOW += ("sklearn.decomposition", "torch", "torchmetrics", "torchvision")


def warm() -> None:
    """Import what the package and its tests stand on, and nothing of the package itself."""
    for name in SLOW:
        importlib.import_module(name)


def name_of(file: Path) -> str:
    """The module of a file of the package."""
    parts = file.resolve().relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Finder(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds the mutated module in place of the one on disk."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        super().__init__(name_of(file), str(file.resolve()))
        self.tree = tree

    def find_spec(self, fullname, path=None, target=None):
        """Of the one module alone."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname):
        """Compiled from the tree."""
        return compile(self.tree, self.path, "exec", dont_inherit=True)


@dataclass(eq=False)
class Chosen:
    """A plug-in of pytest: only these tests, in this order; and the first that fails."""

    order: Sequence[str] | None
    failed: str = ""

    def pytest_collection_modifyitems(self, items) -> None:
        """Keep and sort."""
        if self.order is not None:
            place = {each: n for n, each in enumerate(self.order)}
            items[:] = sorted(
                (each for each in items if each.nodeid in place), key=lambda i: place[i.nodeid]
            )

    def pytest_runtest_logreport(self, report) -> None:
        """The first failure."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report) -> None:
        """A file that cannot be imported fails too."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


@dataclass(eq=False)
class Timed:
    """A plug-in of pytest: which test runs which lines of some files, and how long it takes."""

    cov: object
    seconds: dict = field(default_factory=lambda: defaultdict(float))

    def pytest_runtest_logstart(self, nodeid, location) -> None:
        """Lines from here on are of this test."""
        self.cov.switch_context(nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        """Setup and call."""
        self.seconds[report.nodeid] += report.duration


def forked(work: Callable[[], object], out: Path) -> int:
    """The process that does it, and writes what it returns as JSON."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    if not os.environ.get("MUTANTS_LOUD"):
        os.dup2(null, 1)
        os.dup2(null, 2)
    try:
        out.write_text(json.dumps(work()))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def covering(files: Sequence[Path], tests: Sequence[str], scratch: Path) -> dict:
    """What is needed to choose tests: `seconds` of each, and `lines`: file -> line -> tests."""

    def work() -> dict:
        import coverage
        import pytest

        cov = coverage.Coverage(data_file=None, include=[str(each.resolve()) for each in files])
        cov.start()
        plug = Timed(cov)
        code = pytest.main([*OPTIONS[1:], *tests], plugins=[plug])
        cov.stop()
        data = cov.get_data()
        lines = {}
        for file in files:
            of = data.contexts_by_lineno(str(file.resolve()))
            lines[str(file)] = {str(n): [c for c in every if c] for n, every in of.items()}
        return {"code": int(code), "seconds": dict(plug.seconds), "lines": lines}

    out = scratch / "covering.json"
    os.waitpid(forked(work, out), 0)
    known = json.loads(out.read_text())
    # Tried as mutants are, an unchanged module has to survive: else no kill says anything.
    order = sorted(known["seconds"], key=known["seconds"].get)[:20]
    os.waitpid(forked(partial(tried, files[0], None, order), out), 0)
    known["code"] = known["code"] or json.loads(out.read_text())["code"]
    return known


def tests_of(known: dict, file: Path, line: int, most: float) -> list[str]:
    """Tests that run a line, quick ones first; then the others of their files: fixtures and caches
    hide who else depends on it."""
    seconds, lines = known["seconds"], known["lines"][str(file)]
    mine = set(lines.get(str(line), ()))
    if not mine:  # run at import, or by none
        mine = {each for every in lines.values() for each in every}
    places = {each.split("::")[0] for each in mine}
    beside = {each for each in seconds if each.split("::")[0] in places} - mine
    order = [*sorted(mine, key=seconds.get), *sorted(beside, key=seconds.get)]
    kept, total = [], 0.0
    for each in order:
        total += seconds[each]
        if kept and total > most:
            break
        kept.append(each)
    return kept


@dataclass
class Trial:
    """One mutant being tried."""

    index: int
    out: Path
    ends: float
    began: float


def tried(file: Path, mutant: Mutant | None, order: Sequence[str]) -> dict:
    """Run tests on a mutant, in a process that is thrown away."""
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, Finder(file, mutant.tree(file.read_text())))
    plug = Chosen(order)
    places = list(dict.fromkeys(each.split("::")[0] for each in order))
    code = pytest.main([*OPTIONS, *places], plugins=[plug])
    return {"code": int(code), "by": plug.failed}


def each_tried(jobs: Sequence[tuple], scratch: Path, *, at_once: int, ends: float, told) -> None:
    """Jobs (file, mutant, tests, limit in seconds), some at once, until time is up.

    `told(index, outcome)` is called for each as it ends.
    """
    waiting, running = list(enumerate(jobs)), {}
    while waiting or running:
        while waiting and len(running) < at_once and time.monotonic() < ends:
            index, (file, mutant, order, limit) = waiting.pop(0)
            out, now = scratch / f"{index}.json", time.monotonic()
            pid = forked(partial(tried, file, mutant, order), out)
            running[pid] = Trial(index, out, now + limit, now)
        if not running:
            return
        pid, _ = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic()
        if pid in running:
            trial = running.pop(pid)
            found = json.loads(trial.out.read_text()) if trial.out.exists() else {"code": -1}
            told(trial.index, found | {"seconds": now - trial.began})
            continue
        for late, trial in list(running.items()):
            if now > trial.ends:
                os.killpg(late, signal.SIGKILL)
                os.waitpid(late, 0)
                del running[late]
                told(trial.index, {"code": -2, "by": "", "seconds": now - trial.began})
        time.sleep(0.02)
