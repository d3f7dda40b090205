"""Runs tests on mutants, each in a process that is forked when all is imported and collected.

A change inside a function is put into the functions that are there, wherever they were imported
to: such a mutant costs what its tests cost. One of a class, a default or a constant needs the
package imported anew, by a hook that finds the changed module in place of the one on disk.
"""

import ast
import gc
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import _lru_cache_wrapper, partial
from pathlib import Path
from types import CodeType, FunctionType

from tests.mutants.operators import Mutant

ROOT = Path(__file__).parents[2]
OPTIONS = ["-q", "-s", "-n", "0", "-p", "no:cacheprovider", "--no-header"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what `warm` imports
SLOW = ("hypothesis.strategies", "pandas", "pytest", "scipy.optimize", "scipy.stats", "timm")
SLOW += ("sklearn.decomposition", "torch", "torchmetrics", "torchvision")


def warm() -> None:
    """Import what the package and its tests stand on, and nothing of the package itself."""
    for name in SLOW:
        importlib.import_module(name)


def forked(work: Callable[[], object]) -> int:
    """The process that does it, and says nothing; only Ctrl-C at a terminal does not reach it."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    if not os.environ.get("MUTANTS_LOUD"):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
    try:
        work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds the changed module in place of the one on disk."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        parts = file.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        super().__init__(name, str(ROOT / file))
        self.tree = tree

    def find_spec(self, fullname, path=None, target=None):
        """Of the one module alone."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname):
        """Compiled from the tree."""
        return compile(self.tree, self.path, "exec", dont_inherit=True)


def put_in(file: Path, tree: ast.Module) -> None:
    """Give the functions of a module, wherever they are held, the code of the changed one."""
    path = str(ROOT / file)
    new = {
        (code.co_qualname, code.co_firstlineno): code
        for code in _codes(compile(tree, path, "exec", dont_inherit=True))
    }
    for each in gc.get_objects():
        if type(each) is _lru_cache_wrapper and each.__module__.startswith("whitebox_probe"):
            each.cache_clear()  # of what was computed when tests were collected
        if type(each) is FunctionType and each.__code__.co_filename == path:  # proxies warn
            code = new[each.__code__.co_qualname, each.__code__.co_firstlineno]
            if code != each.__code__:
                each.__code__ = code


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


@dataclass(frozen=True)
class Job:
    """A mutant, the tests that it is tried on, and the seconds that it may take."""

    index: int
    file: Path
    mutant: Mutant
    tests: Sequence[str]
    limit: float


class Judged:
    """A plug-in of pytest: these tests in this order, and which of them failed."""

    def __init__(self, order: Sequence[str], out: Path) -> None:
        self.order, self.out, self.failed = order, out, ""

    def pytest_collection_modifyitems(self, items) -> None:
        """Keep and sort."""
        items[:] = chosen(items, self.order)

    def pytest_runtest_logreport(self, report) -> None:
        """The first failure is enough."""
        if report.failed:
            self.done(report.nodeid)

    def pytest_collectreport(self, report) -> None:
        """A file that cannot be imported fails too."""
        if report.failed:
            self.done(report.nodeid)

    def pytest_sessionfinish(self, exitstatus) -> None:
        """All of them passed, or nothing could be run."""
        self.done("" if exitstatus == 0 else f"exit {int(exitstatus)}")

    def done(self, failed: str) -> None:
        """Say so, and end."""
        self.out.write_text(json.dumps(failed))
        os._exit(0)


def chosen(items: Sequence, order: Sequence[str]) -> list:
    """Those of the tests that are named, in that order."""
    place = {each: n for n, each in enumerate(order)}
    kept = [each for each in items if each.nodeid in place]
    return sorted(kept, key=lambda each: place[each.nodeid])


class Traced:
    """A plug-in of pytest: which test runs which lines of some files, and how long it takes."""

    def __init__(self, files: Sequence[Path], out: Path) -> None:
        import coverage

        self.files, self.out = files, out
        self.seconds, self.failed = defaultdict(float), []
        include = [str(ROOT / each) for each in files]
        self.cov = coverage.Coverage(data_file=None, config_file=False, include=include)
        self.cov.start()

    def pytest_runtest_logstart(self, nodeid, location) -> None:
        """Lines from here on are of this test."""
        self.cov.switch_context(nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        """Setup, call and what follows."""
        self.seconds[report.nodeid] += report.duration
        self.failed += [report.nodeid] if report.failed else []

    def pytest_sessionfinish(self) -> None:
        """Write what was seen, and end."""
        self.cov.stop()
        lines = {}
        for file in self.files:
            of = self.cov.get_data().contexts_by_lineno(str(ROOT / file))
            lines[str(file)] = {str(n): [c for c in every if c] for n, every in of.items()}
        told = {"seconds": self.seconds, "lines": lines, "failed": self.failed}
        self.out.write_text(json.dumps(told))
        os._exit(0)


class Server:
    """A plug-in of pytest that forks where tests would be run: first to see which test runs which
    lines, then for each mutant; the session itself runs none."""

    def __init__(self, files, scratch: Path, plan, told, *, at_once: int) -> None:
        self.files, self.scratch, self.plan, self.told = files, scratch, plan, told
        self.at_once = at_once

    def pytest_runtestloop(self, session):
        """None in a forked process, which goes on to the tests."""
        out = self.scratch / "covering.json"
        pid = os.fork()
        if not pid:
            return self._silent(session, Traced(self.files, out))
        os.waitpid(pid, 0)
        jobs = self.plan(json.loads(out.read_text()))
        self.session = session
        for job in tried(jobs, self._begin, self.scratch, at_once=self.at_once, told=self.told):
            # Here is the forked process.
            put_in(job.file, job.mutant.tree((ROOT / job.file).read_text()))
            session.items = chosen(session.items, job.tests)
            return self._silent(session, Judged(job.tests, self.scratch / f"{job.index}.json"))
        return True

    @staticmethod
    def _begin(job: Job) -> int:
        return os.fork()

    @staticmethod
    def _silent(session, plug) -> None:
        os.setsid()
        if not os.environ.get("MUTANTS_LOUD"):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
        session.config.pluginmanager.register(plug)


def imported_anew(scratch: Path, job: Job) -> int:
    """The process in which a mutant is tried with the package imported anew."""

    def work() -> None:
        import pytest

        sys.meta_path.insert(0, Changed(job.file, job.mutant.tree((ROOT / job.file).read_text())))
        places = list(dict.fromkeys(each.split("::")[0] for each in job.tests))
        out = scratch / f"{job.index}.json"
        pytest.main([*OPTIONS, *places], plugins=[Judged(job.tests, out)])
        out.write_text(json.dumps("pytest"))

    return forked(work)


def tried(
    jobs: Sequence[Job], begin: Callable[[Job], int], scratch: Path, *, at_once: int, told
) -> Iterator[Job]:
    """Try each, some at once; `told(index, outcome, by, seconds)` as each ends.

    Yields: the job, in a process that `begin` forked and that returned here.
    """
    waiting, running = list(jobs), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop(0)
            pid = begin(job)
            if not pid:
                yield job
                return
            running[pid] = job, time.monotonic()
        time.sleep(0.01)
        for pid, (job, began) in list(running.items()):
            seconds = time.monotonic() - began
            late = seconds > job.limit
            if late:
                os.kill(pid, signal.SIGKILL)
            if os.waitpid(pid, 0 if late else os.WNOHANG)[0] != pid:
                continue
            del running[pid]
            out = scratch / f"{job.index}.json"
            by = json.loads(out.read_text()) if out.exists() else "crash"
            outcome = "timed out" if late else "killed" if by else "survived"
            outcome = "crashed" if by == "crash" and not late else outcome
            told(job.index, outcome, by, seconds)


def tests_of(known: dict, file: Path, line: int, *, most: float, last: Sequence[str]) -> list[str]:
    """Tests that run a line, quick ones first, then the others of their files: fixtures and caches
    hide who else depends on it. Of a line that is run at import, or by none, all that run its file.

    Args: most: seconds that they take together. last: files and folders whose tests come last.
    """
    seconds, lines = known["seconds"], known["lines"][str(file)]
    mine = set(lines.get(str(line), ())) or {each for every in lines.values() for each in every}
    places = {each.split("::")[0] for each in mine}
    beside = {each for each in seconds if each.split("::")[0] in places} - mine
    kept, total = [], 0.0

    def order(each: str) -> tuple:
        return each.startswith(tuple(last)), each in beside, seconds[each]

    for each in sorted(mine | beside, key=order):
        total += seconds[each]
        if kept and total > most:
            break
        kept.append(each)
    return kept


def serve(tests: Sequence[str], files, scratch: Path, plan, told, *, at_once: int) -> int:
    """Try mutants of functions; `plan` makes jobs from what the tests are seen to run."""
    import pytest

    server = Server(files, scratch, plan, told, at_once=at_once)
    return int(pytest.main([*OPTIONS, *tests], plugins=[server]))


def anew(jobs: Sequence[Job], scratch: Path, told, *, at_once: int) -> None:
    """Try mutants of all else."""
    for _ in tried(jobs, partial(imported_anew, scratch), scratch, at_once=at_once, told=told):
        raise AssertionError("a process came back")
