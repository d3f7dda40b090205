"""What a pass has measured so far, kept in a file, so that a run that was cut off can go on.

A state is taken between two batches and holds the table of values, every sum, and how many batches
are done. Going on from it does the same additions in the same order: the result is the same to the
last bit. It is a plain npz archive (arrays, and JSON in one of them), never unpickled. It carries a
digest of all that it holds: what was changed since is refused, and so is what another plan wrote.
"""

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from whitebox_probe._core import launch, stopping
from whitebox_probe._core.arrays import read_arrays
from whitebox_probe._core.errors import DataError, ProcessError
from whitebox_probe._core.gate import Unfit, digest, expect, gate, not_as_written, parse_json
from whitebox_probe._core.io import atomic_path
from whitebox_probe._core.lines import shown
from whitebox_probe.data.source import Batch, Source
from whitebox_probe.probing.collector import Collector, State
from whitebox_probe.probing.identity import HASHES, UNKNOWN
from whitebox_probe.probing.processes import Processes
from whitebox_probe.probing.state_files import name_of, processes_of, states_in

FORMAT = 6
_COUNT = {"type": "integer", "minimum": 0}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "format": {"const": FORMAT},
        "identity": {"type": "object"},
        "batches": _COUNT,
        "tokens": {"type": "object", "additionalProperties": _COUNT},
        "sums": {
            "type": "object",
            "propertyNames": {"pattern": r"^\d+/\d+/."},
            "additionalProperties": {"type": "string"},
        },
        "skipped": {
            "type": "object",
            "propertyNames": {"pattern": r"^\d+$"},
            "additionalProperties": {"type": "string"},
        },
        "members": {
            "anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": _COUNT}]
        },
    },
    "required": ["format", "identity", "batches", "tokens", "sums", "skipped", "members"],
    "additionalProperties": False,
}


class Saver:
    """Saves the state of a pass now and then, and puts it back.

    Args:
        folder: of the state; None to save nothing. every: seconds between two saves.
        identity: what must be the same for a run to go on, by the name that an error gives it.
        workers: processes that read the samples.
        begin: makes the folder this pass' own, where it is not to go on from what is there. What an
            earlier one left stays until there is something to put in its place: it is called
            after the first batch, by every process.
    """

    def __init__(
        self,
        folder: Path | None,
        every: float,
        processes: Processes,
        collector: Collector,
        source: Source,
        identity: Callable[[], Mapping[str, Any]],
        workers: int = 0,
        begin: Callable[[], None] | None = None,
    ) -> None:
        if folder is not None and not source.numbers:
            raise DataError(
                f"a pass over {source.name} cannot be saved",
                "its samples have no numbers, which would tell those that come next",
                "Pass a loader's Dataset, a list or files, or leave checkpoint= out",
            )
        self.folder = folder
        self.every = every
        self.batches = 0
        self._processes = processes
        self._name = name_of(processes.rank, processes.count)
        self._begin = begin
        self._collector = collector
        self._source, self._workers = source, workers
        self._identity = identity
        self._kept: Mapping[str, Any] | None = None
        self._device = torch.device("cpu")
        self._last = time.monotonic()
        self._stop: int | None = None

    def restore(self, device: torch.device) -> None:
        """Put back the state that the folder holds, if any.

        Raises: ProcessError for a state of another run, or one that cannot be read.
        """
        if self.folder is None:
            return
        self._same()  # of data as they are before the first batch, whenever the first save comes
        if self._begin is not None:
            return
        counts = {processes_of(path) for path in states_in(self.folder)}
        counts.discard(self._processes.count)
        if counts:
            raise ProcessError(
                f"the run in {self.folder} cannot go on",
                f"it was begun by {counts.pop()} processes, and this one has "
                f"{self._processes.count}",
                "Start as many as before, or begin anew in another folder",
            )
        path = self.folder / self._name
        if not path.is_file():
            return
        try:
            about, arrays = _read(path)
            self._expect_same(about["identity"])
            self._expect_same_samples(arrays["ids"], arrays["identities"])
            if self._collector.needs_labels:
                self._expect_same_classes(*arrays["classes"].T)
            with gate():
                if about["tokens"].keys() != self._collector.tokens.keys():
                    raise Unfit("its counts of tokens are those of another plan")
                self._put_back(about, arrays, device)
                if arrays["values"].shape[1] != self._collector.table.values.shape[1]:
                    raise Unfit("its values are those of another plan")
        except Unfit as why:
            raise ProcessError(
                f"the state {path} cannot be read",
                str(why),
                "Remove it and begin anew",
            ) from why

    def _expect_same(self, before: Mapping[str, Any]) -> None:
        now = self._same()
        if now.get(UNKNOWN):
            raise ProcessError(
                f"the run in {self.folder} cannot go on",
                f"whether the network is the same is not known: {unread(now[UNKNOWN])}",
                "Begin anew in another folder",
            )
        changed = []
        for what in dict.fromkeys([*before, *now]):
            was, is_now = (json.dumps(each.get(what), sort_keys=True) for each in (before, now))
            if was != is_now:
                hidden = what.startswith(HASHES)
                changed.append(what if hidden else f"{what} (was {was}, is {is_now})")
        if changed:
            raise ProcessError(
                f"the run in {self.folder} cannot go on",
                f"changed since it began: {', '.join(changed)}",
                "Use the same as then, or begin anew in another folder",
            )

    def _expect_same_samples(self, ids: np.ndarray, identities: np.ndarray) -> None:
        """Read again what was measured: its numbers stand beside those to come."""
        unknown = sorted(set(ids.tolist()) - set(self._source.numbers))
        if unknown:
            raise self._other(f"sample {unknown[0]} of its state is none of this run's")
        assert self._source.identities is not None, "data that can be saved are numbered"
        now = self._source.identities(ids.tolist(), self._workers)
        pairs = zip(ids.tolist(), identities.tolist(), now, strict=True)
        other = [number for number, was, found in pairs if found is not None and found != was]
        if other:
            raise self._other(
                f"{len(other)} of {len(ids)} samples are not what was measured, "
                f"such as sample {other[0]}: the data changed, or are drawn at random"
            )

    def _expect_same_classes(self, ids: np.ndarray, classes: np.ndarray) -> None:
        """Ask again for the classes of what was measured: sums over classes hold them."""
        assert self._source.classes is not None, "data that can be saved are numbered"
        now = self._source.classes(ids.tolist(), self._workers)
        pairs = zip(ids.tolist(), classes.tolist(), now, strict=True)
        other = [number for number, was, found in pairs if found is not None and found != was]
        if other:
            raise self._other(
                f"{len(other)} of {len(ids)} samples are of another class than when they were "
                f"measured, such as sample {other[0]}"
            )

    def _other(self, why: str) -> ProcessError:
        return ProcessError(
            f"the run in {self.folder} cannot go on",
            why,
            "Use the same data as then, or begin anew in another folder",
        )

    def _same(self) -> Mapping[str, Any]:
        """The identity, made once: it reads all samples."""
        if self._kept is None:
            self._kept = json.loads(json.dumps(self._identity()))
        return self._kept

    def save(self) -> None:
        """Write the state; the file is replaced whole."""
        if self.folder is None:
            return
        state = self._collector.state()
        arrays: dict[str, Any] = {
            "ids": state.ids,
            "identities": state.identities,
            "values": state.values,
            "classes": np.array([*state.classes.items()], dtype=np.int64).reshape(-1, 2),
        }
        kinds = {}
        for (number, layer, name), (kind, value) in state.sums.items():
            key = f"{number}/{layer}/{name}"
            arrays[f"sum/{key}"], kinds[key] = value, kind
        about = {
            "format": FORMAT,
            "identity": self._same(),
            "batches": self.batches,
            "tokens": dict(state.tokens),
            "sums": kinds,
            "skipped": {str(number): why for number, why in state.skipped.items()},
            "members": _written(self._source.members),
        }
        about["digest"] = _digest(about, arrays)
        arrays["about"] = np.array(json.dumps(about))
        with atomic_path(self.folder / self._name) as path:
            np.savez(path, **arrays)
        self._last = time.monotonic()

    def _put_back(
        self, about: Mapping[str, Any], arrays: Mapping[str, Any], device: torch.device
    ) -> None:
        sums = {}
        for key, kind in about["sums"].items():
            number, layer, name = key.split("/", 2)
            sums[int(number), int(layer), name] = (kind, arrays[f"sum/{key}"])
        skipped = {int(number): why for number, why in about["skipped"].items()}
        state = State(
            ids=arrays["ids"],
            identities=arrays["identities"],
            values=arrays["values"],
            tokens=about["tokens"],
            classes={number: label for number, label in arrays["classes"].tolist()},
            sums=sums,
            skipped=skipped,
        )
        self._collector.restore(state, device)
        self.batches = about["batches"]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM end the pass after the batch at hand, with its state saved.

        A second Ctrl-C does not wait for the batch.
        """
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            stopping.note(number)
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = number

        before = {number: signal.signal(number, ask) for number in stopping.NUMBERS}
        self._last = time.monotonic()
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None: it was set by no Python code, which cannot set it
                    signal.signal(number, handler)

    def kept_on_error(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; what was measured is saved before an error of reading is passed on.

        Raises: DataError that says so.
        """
        try:
            yield from batches
        except DataError as error:
            if self.folder is None or self.batches == 0:
                raise
            self.save()
            if self._stop:  # the readers of samples got the signal too
                raise self._stopped() from error
            kept = f"what was measured is saved in {self.folder}, and the same call goes on"
            raise DataError(error.what, error.why, f"{error.fix.rstrip('.')}; {kept}") from error

    def after_batch(self) -> None:
        """Count a batch; save if it is time.

        Raises: KeyboardInterrupt, once the state is saved, when the run was asked to stop.
        """
        self.batches += 1
        if self.folder is None:
            return
        if launch.is_left():  # nobody waits for this process, and another run may go on with it
            self._stop = signal.SIGTERM
            if self._begin is not None:
                raise stopping.kind(self._stop)("stopped: nothing is saved yet")
        self._begun()
        if self._stop or time.monotonic() - self._last >= self.every:
            self.save()
        if self._stop:
            raise self._stopped()

    def _stopped(self) -> KeyboardInterrupt:
        used = self._collector.table.used
        told = f"stopped: {used} samples are saved in {self.folder}"
        return stopping.kind(self._stop or signal.SIGINT)(told)

    def finish(self) -> None:
        """Save a pass that is whole, if it was long enough to be saved before."""
        if self.folder is None:
            return
        self._begun()  # of fewer samples than processes, this one may have had none
        if (self.folder / self._name).is_file():
            self.save()

    def _begun(self) -> None:
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()


def unread(unknown: Sequence[str]) -> str:
    """What the digest of a network does not cover."""
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    return f"its hooks or functions hold what cannot be read, {unknown[0]}{more}"


_BYTES = "\0"
"""What stands before the bytes of a name that is no UTF-8: no name holds it."""
_HALVES = "surrogatepass"


def _written(members: Mapping[str, int] | None) -> dict[str, int] | None:
    """Names as JSON can hold them."""
    if members is None:
        return None
    return {
        name if name.isprintable() else _BYTES + name.encode("utf-8", _HALVES).hex(): size
        for name, size in members.items()
    }


def _as_named(members: Mapping[str, int] | None) -> dict[str, int] | None:
    """What `_written` wrote."""
    if members is None:
        return None
    return {
        bytes.fromhex(name[1:]).decode("utf-8", _HALVES) if name.startswith(_BYTES) else name: size
        for name, size in members.items()
    }


def members_in(folder: Path | None) -> Mapping[str, int] | None:
    """The files that an unfinished run was begun with, where its state in a folder says them."""
    paths = [] if folder is None else states_in(folder)
    if not paths:
        return None
    try:
        with gate():
            return _as_named(_read(paths[0])[0]["members"])
    except Unfit:
        return None  # told when the state is put back


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a state says of itself, and its arrays.

    Raises: Unfit for a state that is not as it was written, or of another version.
    """
    arrays = read_arrays(path, kinds="biufU")
    if "about" not in arrays or arrays["about"].ndim:
        raise Unfit("it does not say what it is of")
    about = parse_json(str(arrays.pop("about")))
    told = about.pop("digest", None) if isinstance(about, dict) else None
    if isinstance(about, dict) and about.get("format") != FORMAT:
        raise Unfit(f"it is of format {shown(about.get('format'))}, and {FORMAT} is read")
    with gate():
        if told != _digest(about, arrays):
            not_as_written("the state")
    expect(_SCHEMA, about)
    _expect_arrays(about, arrays)
    return about, arrays


def _digest(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a state's arrays, their types and shapes, and of what it says of itself."""
    found = hashlib.sha256(digest(json.loads(json.dumps(about))).encode())
    for name, array in sorted(arrays.items()):
        plain = np.ascontiguousarray(array)
        found.update(f"{name}|{plain.dtype.str}|{array.shape}|".encode())
        found.update(plain.data if plain.size else b"")
    return found.hexdigest()


def _expect_arrays(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Check that a state's arrays are of the kinds and shapes of one.

    Raises: Unfit.
    """
    with gate():
        ids, values = arrays["ids"], arrays["values"]
        same = arrays["identities"].shape == ids.shape == values.shape[:1]
        if ids.ndim != 1 or values.ndim != 2 or not same or len(set(ids.tolist())) < len(ids):
            raise Unfit("its samples and values do not fit each other")
        if arrays["classes"].ndim != 2 or arrays["classes"].shape[1] != 2:
            raise Unfit("its classes are no pairs")
        whole = {"ids", "identities", "classes"}
        if any(arrays[name].dtype.kind not in "iu" for name in whole) or values.dtype.kind != "f":
            raise Unfit("its samples and values are of other types")
        sums = {f"sum/{key}" for key in about["sums"]}
        if set(arrays) != sums | whole | {"values"}:
            raise Unfit("its sums are not those that it speaks of")
