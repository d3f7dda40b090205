"""The cache: one process at a time, nothing torn, what is damaged kept aside and named."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from tests.checkpoints.server import directly, serving
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe.checkpoints import (
    CACHE_VARIABLE,
    REGISTRY_VARIABLE,
    Checkpoint,
    _cache,
    _http,
    fetch,
    locate,
)
from whitebox_probe.checkpoints._cache import LOCK
from whitebox_probe.cli import main as cli

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    directly(monkeypatch)
    monkeypatch.setattr(_http, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def server():
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def at(url, **fields):
    known = {"sha256": DIGEST, "size": len(CONTENT)} | fields
    source = {"kind": "url", "url": url, "filename": "one.pth"}
    return Checkpoint(name="one", family="crate", arch={"dim": 8}, source=source, **known)


def left(cache):
    return [path for path in cache.rglob("*") if path.name != LOCK and not path.is_dir()]


CODE = """
import resource, sys
from whitebox_probe.checkpoints import _http
from whitebox_probe.cli.main import main
most = int(sys.argv[1])
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
sys.exit(main(["fetch", "one", *sys.argv[2:]]))
"""


class Fetching:
    """`fetch` in a process of its own."""

    def __init__(self, url, cache, *, most=0, quiet=True):
        file = cache.parent / f"{len(url)}{time.monotonic_ns()}.yaml"
        source = f"{{kind: url, url: '{url}', filename: one.pth}}, sha256: {DIGEST}"
        file.write_text(
            f"checkpoints: {{one: {{family: crate, arch: {{dim: 8}}, source: {source}}}}}"
        )
        own = {REGISTRY_VARIABLE: str(file), CACHE_VARIABLE: str(cache)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(most), *["--quiet"][: int(quiet)]],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def stop(self, how):
        self.process.send_signal(how)
        return self.ended()


def unfinished(cache):
    """What a download has written so far, once it has begun."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        begun = [path for path in left(cache) if path.stat().st_size]
        if begun:
            return begun
        time.sleep(0.02)
    raise AssertionError("no download has begun")


def expect_line(done, *told):
    status, _, err = done
    assert status == 2
    assert err.count("\n") == 1
    assert len(err) < 500
    for each in told:
        assert each in err


# Processes


def test_two_processes_at_once_download_once(server, cache):
    url = server.at("slow")
    several = [Fetching(url, cache) for _ in range(3)]
    for each in several:
        assert each.ended() == (0, f"one: {cache / 'one' / 'one.pth'}\n", "")
    assert (cache / "one" / "one.pth").read_bytes() == CONTENT
    assert server.times(url) == 1
    assert left(cache) == [cache / "one" / "one.pth"]


def test_the_partial_file_of_a_live_process_stays(server, cache):
    url = server.at("slow", "good")
    first = Fetching(url, cache)
    unfinished(cache)
    second = Fetching(url, cache)
    assert first.ended()[0] == second.ended()[0] == 0
    assert (cache / "one" / "one.pth").read_bytes() == CONTENT
    assert server.times(url) == 1


def test_who_waits_takes_over_from_a_process_that_is_killed(server, cache):
    url = server.at("stall", "good")
    first = Fetching(url, cache)
    unfinished(cache)
    second = Fetching(url, cache)
    time.sleep(0.7)
    first.stop(signal.SIGKILL)
    assert second.ended()[0] == 0
    assert left(cache) == [cache / "one" / "one.pth"]
    assert (cache / "one" / "one.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_download_leaves_no_file_of_that_name_and_the_next_is_whole(how, server, cache):
    url = server.at("stall", "good")
    fetching = Fetching(url, cache)
    unfinished(cache)
    status, out, err = fetching.stop(how)
    assert out == ""
    assert "Traceback" not in err
    assert status == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(how, -how)
    assert locate(at(url)) is None
    assert left(cache) == [] or how == signal.SIGKILL
    path = fetch(at(url), progress=False)
    assert left(cache) == [path]
    assert path.read_bytes() == CONTENT


def test_ctrl_c_ends_a_wait_for_another_process(server, cache):
    url = server.at("stall")
    first = Fetching(url, cache)
    unfinished(cache)
    second = Fetching(url, cache, quiet=False)
    waiting = "one: waiting for the process that fetches it already\n"
    assert second.process.stderr.readline() == waiting
    assert second.stop(signal.SIGINT)[0] == 130
    assert unfinished(cache), "the other's file is still there"
    first.stop(signal.SIGKILL)


def test_what_killed_runs_left_is_cleared_and_nothing_else(server, cache):
    folder = cache / "one"
    (folder / ".download.whitebox-part-abcdef_1").mkdir(parents=True)
    torn = [
        ".one.whitebox-part-abcd_123.pth",
        ".two.whitebox-part-abcdefg8.tar",
        ".download.whitebox-part-abcdef_1/thing.whl",
    ]
    kept = ["notes.txt", ".hidden", "one.pth.damaged", ".film.part-1", ".notes.part-abcdefgh.txt"]
    for name in torn + kept:
        (folder / name).write_bytes(b"x")
    fetch(at(server.at("good")), progress=False)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*kept, LOCK, "one.pth"])
    assert cache.parent.is_dir()


def test_a_file_system_without_locks_has_nothing_cleared(server, cache, monkeypatch):
    def no_locks(*_, **__):
        raise NotImplementedError("no flock")

    def none_here(*_):
        raise OSError(errno.ENOLCK, "no flock")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    monkeypatch.setattr("fcntl.flock", none_here)
    (cache / "one").mkdir(parents=True)
    (cache / "one" / ".one.whitebox-part-abcdefgh.pth").write_bytes(b"of a process that may live")
    path = fetch(at(server.at("good")), progress=False)
    assert path.read_bytes() == CONTENT
    assert len(left(cache)) == 2


def test_who_waits_says_so(server, cache, monkeypatch, capsys):
    from filelock import FileLock

    url = server.at("good")
    (cache / "one").mkdir(parents=True)
    other = FileLock(cache / "one" / LOCK)
    other.acquire()
    usual = FileLock.acquire

    def acquire(self, timeout=None, **options):
        if timeout is None:
            other.release()
        return usual(self, timeout, **options)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    fetch(at(url), progress=True)
    assert "one: waiting for the process that fetches it already" in capsys.readouterr().err


# Damage


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), "its sha256 is"),
        (CONTENT[:1000], "it has 1000 bytes and the registry says 300000"),
        (CONTENT + b"x", "it has 300001 bytes and the registry says 300000"),
        (b"", "it is empty"),
        (b"<html>" + CONTENT[6:], "it is a web page"),
    ],
    ids=["one bit", "cut", "longer", "empty", "page"],
)
def test_a_damaged_file_is_set_aside_named_and_fetched_anew(damaged, told, server, cache):
    path = fetch(at(server.at("good")), progress=False)
    path.write_bytes(damaged)
    with pytest.warns(LoadWarning, match=told) as warned:
        assert fetch(at(server.at("good")), progress=False) == path
    aside = path.with_name("one.pth.damaged")
    assert str(aside) in str(warned[0].message)
    assert warned[0].filename == __file__
    assert path.read_bytes() == CONTENT
    assert aside.read_bytes() == damaged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch(at(server.at("good")), progress=False)


def test_a_second_damaged_file_does_not_replace_the_first(server, cache):
    path = fetch(at(server.at("good")), progress=False)
    for damaged in (b"1", b"2", b"3"):
        path.write_bytes(damaged)
        with pytest.warns(LoadWarning):
            fetch(at(server.at("good")), progress=False)
    found = {each.name: each.read_bytes() for each in path.parent.glob("*.damaged*")}
    assert found == {"one.pth.damaged": b"1", "one.pth.damaged1": b"2", "one.pth.damaged2": b"3"}


def test_a_damaged_file_is_kept_if_it_cannot_be_fetched_anew(server, cache):
    path = fetch(at(server.at("good")), progress=False)
    path.write_bytes(b"other")
    with (
        pytest.warns(LoadWarning, match=r"one\.pth\.damaged"),
        pytest.raises(CheckpointError, match="the server answers 404"),
    ):
        fetch(at(server.at("404")), progress=False)
    assert [each.read_bytes() for each in left(cache)] == [b"other"]


def test_the_command_line_tells_of_damage_in_one_line(server, cache, monkeypatch, capsys):
    entry = at(server.at("good"))
    monkeypatch.setattr("whitebox_probe.cli._shared.named", lambda _: entry)
    fetch(entry, progress=False).write_bytes(b"other")
    assert cli.main(["fetch", "one", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == f"one: {cache / 'one' / 'one.pth'}\n"
    assert err.count("\n") == 1
    assert err.startswith("whitebox-probe: note: the file of 'one' at ")
    assert len(err) < 500
    assert "one.pth.damaged" in err


@pytest.mark.parametrize("kind", ["path", "hand"])
def test_a_users_own_file_is_refused_and_not_renamed(kind, cache, tmp_path):
    path = tmp_path / "w.pth" if kind == "path" else cache / "one" / "w.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"other")
    source = {"kind": kind, "path": str(path), "filename": "w.pth"}
    entry = Checkpoint("one", "crate", {"dim": 8}, source, sha256=DIGEST)
    with pytest.raises(CheckpointError, match=rf"sha256 is .*{path}"):
        fetch(entry, progress=False)
    assert path.read_bytes() == b"other"


# Disk


@pytest.mark.parametrize("what", ["nothing", "a file", "a dangling link", "a link to itself"])
def test_a_cache_that_is_no_folder_is_a_line_or_is_made(what, server, tmp_path):
    cache = tmp_path / "of" / "mine"
    cache.parent.mkdir()
    if what == "a file":
        cache.write_bytes(b"mine")
    elif what == "a dangling link":
        cache.symlink_to(tmp_path / "nowhere")
    elif what == "a link to itself":
        cache.symlink_to(cache)
    url = server.at("good")
    done = Fetching(url, cache).ended()
    if what == "nothing":
        assert done[0] == 0
    else:
        expect_line(done, url, str(cache), CACHE_VARIABLE)
        assert what != "a file" or cache.read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a dangling link"])
def test_what_lies_in_the_files_place(what, server, cache):
    path = cache / "one" / "one.pth"
    path.parent.mkdir(parents=True)
    if what == "a folder":
        path.mkdir()
        (path / "mine").write_bytes(b"mine")
        with pytest.raises(CheckpointError, match="cannot be kept in .*: Is a directory"):
            fetch(at(server.at("good")), progress=False)
        assert left(cache) == [path / "mine"]
        return
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(cache.parent / "nowhere")
    assert fetch(at(server.at("good")), progress=False).read_bytes() == CONTENT
    assert not path.is_symlink()
    assert not (cache.parent / "nowhere").exists()


def test_a_read_only_cache_serves_what_it_has(server, cache):
    url = server.at("good")
    path = fetch(at(url), progress=False)
    other = cache / "two"
    other.mkdir()
    for folder in (other, path.parent, cache):
        folder.chmod(0o555)
    try:
        assert fetch(at(url), progress=False) == path
        assert Fetching(url, cache).ended()[0] == 0
    finally:
        for folder in (cache, path.parent, other):
            folder.chmod(0o755)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "mkstemp", "lock", "write", "fsync", "replace"])
def test_what_the_disk_refuses_is_a_line(call, code, server, cache, monkeypatch):
    calls = []

    def refuse(*_, **__):
        calls.append(call)
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr(_cache.Sink, "write", within(_cache.Sink.write, refuse))
    else:
        where = {
            "mkdir": "pathlib.Path.mkdir",
            "mkstemp": "tempfile.mkstemp",
            "lock": "filelock.FileLock.acquire",
            "fsync": "os.fsync",
            "replace": "pathlib.Path.replace",
        }
        monkeypatch.setattr(where[call], refuse)
    url = server.at("good")
    with pytest.raises(CheckpointError, match=f"cannot be kept in .*: {os.strerror(code)}") as told:
        fetch(at(url), progress=False)
    assert url in str(told.value)
    assert CACHE_VARIABLE in str(told.value)
    assert calls == [call]
    assert left(cache) == []


def within(write, refuse):
    """A write whose file refuses."""

    def call(self, content):
        self._file = type("Full", (), {"write": refuse})
        return write(self, content)

    return call


def test_a_file_larger_than_may_be_written_leaves_nothing(server, cache):
    url = server.at("good")
    done = Fetching(url, cache, most=100_000).ended()
    expect_line(done, url, str(cache), "File too large", CACHE_VARIABLE)
    assert left(cache) == []
    assert server.times(url) == 1


def test_what_is_announced_must_fit_on_the_disk(server, cache, monkeypatch):
    disk = type("Disk", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    told = "it has 300,000 bytes, and 1,000 are free there"
    with pytest.raises(CheckpointError, match=told):
        fetch(at(server.at("good")), progress=False)
    assert left(cache) == []


@pytest.fixture
def small(tmp_path):
    """A disk of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("way", ["good", "chunked"])
def test_a_full_disk_leaves_nothing(way, server, small, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(small))
    url = server.at(way)
    with pytest.raises(CheckpointError, match=r"300,000 bytes, and .* are free|No space left"):
        fetch(at(url), progress=False)
    assert left(small) == []
    assert server.times(url) == 1
