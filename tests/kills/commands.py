"""The commands that are killed: what is given, what they write, and what goes on with them."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.results.result import Result

MODEL = "crate-tiny-fmnist"
QUICK = ["--batch-size", "2", "--quiet"]
SERVED = hashlib.sha256(b"served").digest() * 80_000
"""A file of 2.5 MB that is sent in pieces."""


@dataclass(frozen=True)
class Command:
    """A command in a folder of its own, which it runs in.

    Attributes:
        words: over an old result, or into nothing. old: words that make the old result.
        again: words that go on, once killed; by default the same. alike: whether several processes
            may share it.
        things: what of the folder is one result, by name, with what reads it.
        before: what is made in the folder first.
    """

    name: str
    words: Callable[[bool], list[str]]
    old: tuple[str, ...]
    things: Callable[[Path], dict[str, object]]
    again: Callable[[Path, bool], list[str]] | None = None
    before: Callable[[Path], None] = lambda place: None

    def next(self, place: Path, *, over: bool) -> list[str]:
        """The words that go on in a folder."""
        return self.again(place, over) if self.again else self.words(over)


def _run(over: bool) -> list[str]:
    words = ["run", MODEL, "--limit", "12", "--metrics", "l0,hoyer,compression", *QUICK]
    words += ["--save-every", "0", "--out", "out"]
    return [*words, "--overwrite", "--workers", "1"] if over else words


def _go_on(place: Path, over: bool) -> list[str]:
    begun = (place / "out" / "arguments.json").is_file()
    readers = ["--workers", "1"] if over else []  # which run.json tells
    return ["run", "--resume", "out", *readers] if begun else _run(over)


def _results(place: Path) -> dict[str, object]:
    return _loaded(place, Result, [place / "out"], "run.json")


def _loaded(place: Path, kind: type, folders: list[Path], seal: str) -> dict[str, object]:
    """What folders hold that hold one, whole; the error's line where it is not."""
    found: dict[str, object] = {}
    for folder in folders:
        one = _load(kind, folder)
        if not isinstance(one, str) or not (f"has no {seal}" in one or "no such folder" in one):
            found[str(folder.relative_to(place))] = one
    return found


def _load(kind: type, folder: Path) -> object:
    try:
        return kind.load(folder)  # type: ignore[attr-defined]
    except ProbeError as error:
        return str(error)


def _audit(over: bool) -> list[str]:
    limit = "4" if over is None else "6"
    words = ["audit", MODEL, "--limit", limit, "--no-null", *QUICK]
    return [*words, "--no-robustness", "--format", "png", "--table", "latex", "--out", "out"]


def _verdicts(place: Path) -> dict[str, object]:
    found = _loaded(place, Audit, [place / "out"], "audit.json")
    return found | _loaded(place, Result, [place / "out" / "results" / MODEL], "run.json")


SWEEP = """\
models: [{models}]
data: fashion-mnist
limit: 6
metrics: [l0, compression]
out: out
execution: {{batch_size: 2, save_every: 0}}
"""


def _sweeps(place: Path) -> None:
    for name, models in (("old", MODEL), ("new", f"{MODEL}, {MODEL}-init, vit-tiny-fmnist")):
        (place / f"{name}.yaml").write_text(SWEEP.format(models=models))


def _cells(place: Path) -> dict[str, object]:
    return _loaded(place, Result, sorted(place.glob("out/cells/*/")), "run.json")


def _fetchable(place: Path) -> None:
    digest = hashlib.sha256(SERVED).hexdigest()
    entry = "  {name}:\n    family: crate\n    arch: {{dim: 8}}\n    sha256: {digest}\n"
    entry += "    source: {{kind: url, url: '{url}/{name}', filename: {name}.pth}}\n"
    text = "".join(entry.format(name=name, url=url(), digest=digest) for name in ("one", "two"))
    (place / "registry.yaml").write_text(f"checkpoints:\n{text}")


def _bytes(place: Path) -> dict[str, object]:
    files = [*place.glob("cache/*/[!.]*.pth"), *place.glob("report.html")]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def _report(over: bool) -> list[str]:
    words = ["report", "a", "b", "--out", "report.html"]
    return [*words, *(["--overwrite"] if over else [])]


def _reported_already(place: Path, over: bool) -> list[str]:
    return _report(over or (place / "report.html").exists())


COMMANDS = {
    each.name: each
    for each in (
        Command("run", _run, ("run", MODEL, "--limit", "4", "--out", "out"), _results, _go_on),
        Command("audit", _audit, tuple(_audit(None)), _verdicts),  # type: ignore[arg-type]
        Command(
            "sweep",
            lambda over: ["sweep", "new.yaml", "--quiet"],
            ("sweep", "old.yaml", "--quiet"),
            _cells,
            before=_sweeps,
        ),
        Command(
            "fetch",
            lambda over: ["fetch", "one", "two", "--quiet"],
            ("fetch", "one", "--quiet"),
            _bytes,
            before=_fetchable,
        ),
        Command(
            "report",
            _report,
            ("report", "a", "--out", "report.html"),
            _bytes,
            _reported_already,
        ),
    )
}

_server: list[ThreadingHTTPServer] = []


def url() -> str:
    """Where the file is served."""
    return f"http://127.0.0.1:{_server[-1].server_port}"


class _Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(SERVED)))
        self.end_headers()
        try:
            for start in range(0, len(SERVED), 1 << 16):
                self.wfile.write(SERVED[start : start + (1 << 16)])
                time.sleep(0.004)
        except OSError:  # the reader was killed
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served() -> Iterator[None]:
    """The file, served on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    _server.append(server)
    try:
        yield
    finally:
        _server.remove(server)
        server.shutdown()
        server.server_close()
        thread.join()
