"""Without a network, `fetch` of every entry ends at once with one clear line."""

import socket
import subprocess
import time

import pytest

from whitebox_probe import checkpoints
from whitebox_probe.checkpoints import CACHE_VARIABLE, _services
from whitebox_probe.cli import main as cli

REMOTE = [
    name for name, e in checkpoints.registry().items() if e.source["kind"] not in ("packaged",)
]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """The time of a first import is not the network's."""
    import huggingface_hub  # noqa: F401
    import timm  # noqa: F401


@pytest.fixture
def offline(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("Network is unreachable")

    def no_pip(command, **_):
        told = "ERROR: Could not find a version that satisfies the requirement"
        return subprocess.CompletedProcess(command, 1, stderr=f"warning\n{told}\n")

    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(_services.subprocess, "run", no_pip)
    return tmp_path


@pytest.mark.parametrize("name", REMOTE)
def test_fetch_ends_with_one_line_within_five_seconds(name, offline, capsys):
    start = time.monotonic()
    status = cli.main(["fetch", name, "--quiet"])
    assert time.monotonic() - start < 5
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("whitebox-probe: error: ")
    assert err.count("\n") == 1
    assert f"'{name}'" in err
    source = checkpoints.entry(name).source
    fields = ("id", "repo", "name", "package", "filename")
    assert next(source[field] for field in fields if field in source) in err
    left = [path for path in offline.rglob("*") if path.is_file()]
    assert [path for path in left if path.name != ".lock"] == []
