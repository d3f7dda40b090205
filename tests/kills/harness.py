"""One kill of a command, and what has to be true of its folder before and after it goes on."""

import io
import json
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image

from tests.kills import points
from tests.kills.commands import COMMANDS, MODEL, Command, served
from tests.kills.processes import Ended, Warm, cold, survivors

USUAL = {"KILL": (137,), "TERM": (143,), "INT": (130,)}
"""How a command ends by a signal; or with 0, where it was done before."""


PAGE = 4096
"""Bytes by which the disks that are mounted here are filled."""


@dataclass
class Counts:
    """What became of the points."""

    tried: int = 0
    hit: int = 0
    codes: Counter = field(default_factory=Counter)
    tracebacks: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Every one of them, in words."""
        kinds = ("tracebacks", "unclear", "torn", "lost", "other", "left", "alive")
        return [f"{kind}: {each}" for kind in kinds for each in getattr(self, kind)]

    def line(self, what: str) -> str:
        """The counts in one line."""
        codes = ", ".join(f"{code}: {n}" for code, n in sorted(self.codes.items()))
        return (
            f"{what:14s} {self.tried:4d} tried, {self.hit} stopped ({codes}); "
            f"tracebacks {len(self.tracebacks)}, unclear lines {len(self.unclear)}, "
            f"torn files {len(self.torn)}, results lost {len(self.lost)}, "
            f"other tables {len(self.other)}, files left {len(self.left)}, "
            f"processes left {len(self.alive)}"
        )


@dataclass
class Known:
    """What is known of an undisturbed command, into nothing or over an old result."""

    steps: int
    seconds: float
    files: dict[str, bytes]
    things: dict[str, object]
    old: dict[str, object]
    start: Path


class Bench:
    """A place for commands: their undisturbed runs, and folders to kill them in."""

    def __init__(self, place: Path, warm: Warm) -> None:
        self.place, self.warm = place, warm
        self._known: dict[tuple[str, bool], Known] = {}
        self._number = 0

    def folder(self, start: Path | None = None, *, room: int | None = None) -> Path:
        """A new folder, with the same in it as another.

        Args: room: bytes that can be written there, on a disk of its own; `remove` it.
        """
        self._number += 1
        found = self.place / f"{self._number:05d}"
        found.mkdir()
        if room is not None:
            sizes = [path.lstat().st_size for path in (start or found).rglob("*")]
            taken = sum(size + PAGE - size % PAGE for size in sizes)
            _mount(found, f"size={taken + room}")
        if start:
            shutil.copytree(start, found, dirs_exist_ok=True)
        return found

    def widen(self, place: Path) -> None:
        """Make room on the disk of a folder that has one."""
        if place.is_mount():
            _mount(place, "remount,size=64m")

    def remove(self, place: Path) -> None:
        """Remove a folder, and its disk."""
        if place.is_mount():
            subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(place)

    def known(self, command: Command, *, over: bool) -> Known:
        """The undisturbed run, made once."""
        key = command.name, over
        if key not in self._known:
            start = self.folder()
            command.before(start)
            if command.name == "report":
                for name, limit in (("a", "4"), ("b", "6")):
                    words = ["run", MODEL, "--name", name, "--limit", limit, "--metrics", "l0"]
                    self.call([*words, "--quiet", "--out", name], start)
            if over:
                self.call(command.old, start)
            whole, log = self.folder(start), self.place / f"{command.name}-{over}.steps"
            ended = self.call(
                command.words(over), whole, more=points.told(points.COUNT, 0, whole, log)
            )
            self._known[key] = Known(
                steps=log.stat().st_size,
                seconds=ended.seconds,
                files=files(whole),
                things=command.things(whole),
                old=command.things(start),
                start=start,
            )
        return self._known[key]

    def call(self, words, place: Path, **options) -> Ended:  # type: ignore[no-untyped-def]
        """A command that has to be done."""
        ended = self.warm.call(words, place, **options)
        assert ended.status == 0, (words, ended)
        return ended


def _mount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", str(place)], check=True)


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with ExitStack() as stack:
        place = stack.enter_context(TemporaryDirectory())
        stack.enter_context(served())
        yield Bench(Path(place), stack.enter_context(Warm()))


def files(place: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too; of run.json, what is the same of every run."""
    found = {}
    for path in sorted(each for each in place.rglob("*") if each.is_file()):
        name = str(path.relative_to(place))
        found[name] = path.read_bytes()
        if path.name == "run.json":
            told = json.loads(found[name])
            for volatile in ("seconds", "created", "digest"):
                told.pop(volatile, None)
            found[name] = json.dumps(told, sort_keys=True).encode()
        elif path.name == "cells.csv":
            table = pd.read_csv(io.BytesIO(found[name]))
            found[name] = table.drop(columns="seconds", errors="ignore").to_csv().encode()
    folders = [each for each in place.rglob("*") if each.is_dir() and not any(each.iterdir())]
    return found | {f"{each.relative_to(place)}/": b"" for each in folders}


def torn(place: Path) -> list[str]:
    """Files under a final name that do not read whole."""
    wrong = []
    for path in (each for each in sorted(place.rglob("*")) if each.is_file()):
        parts = path.relative_to(place).parts
        if any(part.startswith(".") for part in parts):
            continue
        try:
            _read(path)
        except Exception as error:
            wrong.append(f"{path.relative_to(place)}: {error}")
    return wrong


def _read(path: Path) -> None:
    whole = path.read_bytes()
    match path.suffix:
        case ".json":
            json.loads(whole)
        case ".csv":
            pd.read_csv(io.BytesIO(whole))
            assert whole.endswith(b"\n")
        case ".parquet":
            pd.read_parquet(io.BytesIO(whole))
        case ".npz":
            with np.load(io.BytesIO(whole), allow_pickle=False) as archive:
                assert all(archive[name].shape is not None for name in archive.files)
        case ".png":
            Image.open(io.BytesIO(whole)).load()
        case ".html":
            assert whole.rstrip().endswith(b"</html>")
        case ".pth" | ".yaml" | ".tex" | ".lock":
            assert whole
        case other:
            raise AssertionError(f"nothing reads {other}")


@dataclass(frozen=True)
class Point:
    """When a command is killed: after so many seconds, or at its n-th step on the disk."""

    act: str
    over: bool
    step: int | None = None
    after: float | None = None
    group: bool = False
    most: int | None = None
    room: int | None = None
    processes: int = 1
    cold: bool = False

    def __str__(self) -> str:
        where = f"step {self.step}" if self.step else f"{self.after or 0:.3f} s"
        where = f"{self.most} bytes a file" if self.most else where
        where = where if self.room is None else f"{self.room} bytes of room"
        told = [where, "over an old one" if self.over else "into nothing"]
        told += ["the whole group"] * self.group + ["from nothing"] * self.cold
        told += [f"{self.processes} processes"] * (self.processes > 1)
        return f"{self.act} at {', '.join(told)}"


def drawn(random: Random, known: Known, act: str, *, over: bool) -> Point:
    """A point at random: of two, one by time and one by step."""
    if random.random() < 0.5 and known.steps:
        return Point(act, over, step=random.randint(1, known.steps))
    after = random.uniform(0.002, 1.02 * known.seconds)
    return Point(act, over, after=after, group=random.random() < 0.5)


def start(at: Bench, words: list[str], place: Path, point: Point) -> Ended:
    """Run a command up to its point."""
    log = place.parent / f"{place.name}.steps"
    options: dict = {}
    if point.step is not None:
        options["more"] = points.told(point.act, point.step, place, log)
    elif point.after is not None:
        number = signal.Signals[f"SIG{point.act}"]
        options |= {"after": point.after, "number": number, "group": point.group}
    if point.cold:
        return cold(words, place, processes=point.processes, **options)
    return at.warm.call(words, place, most=point.most, **options)


def tried(at: Bench, command: Command, point: Point, counts: Counts) -> None:
    """Stop a command at a point, look at what is there, and let it go on."""
    known = at.known(command, over=point.over)
    place = at.folder(known.start, room=point.room)
    ended = start(at, command.words(point.over), place, point)
    counts.tried += 1
    counts.codes[ended.status] += 1
    counts.hit += ended.status != 0
    trial = Trial(at, command, place, known, ended, point, counts)
    if point.act != "KILL":
        trial.answered()
    counts.alive += [f"{trial.told}{pid}" for pid in survivors(ended)]
    trial.looked_at()
    at.widen(place)
    trial.gone_on()
    at.remove(place)


@dataclass(frozen=True)
class Trial:
    """A command that was stopped in a folder, and where to count what became of it."""

    at: Bench
    command: Command
    place: Path
    known: Known
    ended: Ended
    point: Point
    counts: Counts

    @property
    def told(self) -> str:
        """Which it is, before a fault."""
        return f"{self.command.name}, {self.point}: "

    def answered(self) -> None:
        """What a command says that was asked to stop, or found the disk full."""
        ended, point, counts = self.ended, self.point, self.counts
        full = point.act == points.FULL
        usual = (2,) if full else USUAL[point.act]
        if point.processes > 1:
            if "Traceback" in ended.err and "/whitebox_probe/" in ended.err:  # not torchrun's
                counts.tracebacks.append(f"{self.told}{ended.err[-1500:]}")
            return
        if "Traceback" in ended.err or "ignored in" in ended.err or ended.status in (1, 1000):
            counts.tracebacks.append(f"{self.told}{ended.status} {ended.err[-2500:]}")
        elif ended.status not in (0, *usual):
            counts.unclear.append(f"{self.told}exit status {ended.status}: {ended.err[-500:]}")
        elif ended.status != 0:
            lines = [line for line in ended.err.splitlines() if line.strip()]
            silent = point.cold and not lines  # before a line of this package was read
            if not silent and (len(lines) != 1 or len(lines[0]) > 500):
                counts.unclear.append(f"{self.told}{ended.err[-1500:]!r}")

    def looked_at(self) -> None:
        """Nothing torn under a final name, and each thing the old one or the new one."""
        known, counts = self.known, self.counts
        counts.torn += [f"{self.told}{each}" for each in torn(self.place)]
        seen = self.at.folder(self.place)  # reading may finish what was cut off: in a copy
        found = self.command.things(seen)
        shutil.rmtree(seen)
        for name in known.old.keys() | found.keys():
            allowed = [each[name] for each in (known.old, known.things) if name in each]
            if name not in found:
                counts.lost.append(f"{self.told}{name} is gone")
            elif not any(found[name] == each for each in allowed):
                told = f"{self.told}{name} is neither old nor new"
                counts.lost.append(f"{told}: {str(found[name])[:300]}")
        if self.ended.status == 0 and (wrong := self._differing(files(self.place))):
            counts.other.append(f"{self.told}exit status 0, and {wrong}")

    def gone_on(self) -> None:
        """The next command is done, gives the same, and leaves nothing behind."""
        if self.ended.status == 0:
            return
        counts = self.counts
        words = self.command.next(self.place, over=self.point.over)
        if self.point.processes > 1:
            again = cold(words, self.place, processes=self.point.processes)
        else:
            again = self.at.warm.call(words, self.place)
        finished = "its run is finished" in again.err or "holds a result already" in again.err
        if again.status != 0 and not finished:
            told = f"{self.told}{' '.join(words)}"
            counts.lost.append(f"{told}: {again.status} {again.err[-1500:]}")
            return
        now = files(self.place)
        if wrong := self._differing(now):
            counts.other.append(f"{self.told}{wrong}")
        if new := sorted(now.keys() - self.known.files.keys()):
            counts.left.append(f"{self.told}{', '.join(new)}")

    def _differing(self, now: dict[str, bytes]) -> str:
        want = self.known.files
        wrong = sorted(name for name in want if now.get(name) != want[name])
        if self.point.processes > 1:  # how many, run.json tells
            wrong = [name for name in wrong if not name.endswith("run.json")]
        return f"other files: {', '.join(wrong)}" if wrong else ""


__all__ = ["COMMANDS", "Bench", "Counts", "Point", "bench", "drawn", "tried"]
