"""Whatever a server does, a file is whole under its name or there is one line and no file."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.checkpoints.server import WAYS, busy, directly, redirect, serving
from whitebox_probe._core.gate import Unfit
from whitebox_probe.checkpoints import CACHE_VARIABLE, REGISTRY_VARIABLE, _http
from whitebox_probe.checkpoints._http import _at_home, _next
from whitebox_probe.cli import main as cli

CONTENT = os.urandom(70_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KNOWN = f", sha256: {DIGEST}, size: {len(CONTENT)}"
FLOOD = 16_000_000  # bytes: of an endless body, what is sent before it is noticed is in buffers


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    directly(monkeypatch)
    monkeypatch.setattr(_http, "PAUSE", 0.0)
    monkeypatch.setattr(_http, "READ_SECONDS", 5.0)


@pytest.fixture(scope="module")
def server():
    with serving(CONTENT) as server:
        yield server


@pytest.fixture(scope="module")
def other():
    with serving(CONTENT, "127.0.0.2") as server:
        yield server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def get(tmp_path, cache, monkeypatch, capsys):
    """Fetch an address through the command line; its status, and the line that it ends with."""

    def fetch(url, known=KNOWN):
        listed(tmp_path / "own.yaml", url, known)
        monkeypatch.setenv(REGISTRY_VARIABLE, str(tmp_path / "own.yaml"))
        status = cli.main(["fetch", "one", "--quiet"])
        return status, capsys.readouterr().err

    return fetch


def listed(file, url, known=KNOWN):
    source = f"{{kind: url, url: '{url}', filename: one.pth}}"
    entry = f"one: {{family: crate, arch: {{dim: 8}}, source: {source}{known}}}"
    file.write_text(f"checkpoints:\n  {entry}\n")


def impatient(monkeypatch, way):
    if way in ("stall", "silence"):
        monkeypatch.setattr(_http, "READ_SECONDS", 0.3)


def left(cache):
    return [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def expect_refused(result, url, cache, told):
    status, err = result
    assert status == 2
    assert err.count("\n") == 1
    assert len(err) < 500
    assert url in err
    assert told in err
    assert left(cache) == []


# Way -> what is told of it where the registry has size and digest, and where it has neither; None
# where the file is had.
UNSEEN = "nothing says that it is not the file"
LENGTHLESS = "neither the server nor the registry says how long it is"
TOLD = {
    "good": (None, None),
    "without-length": (None, LENGTHLESS),
    "chunked": (None, None),
    "slow": (None, None),
    "cut": ("35000 bytes read, 35000 more expected",) * 2,
    "cut-without-length": ("it has 35000 bytes and the registry says 70000", LENGTHLESS),
    "cut-chunked": ("ended prematurely",) * 2,
    "says-more": ("it has 70010 bytes and the registry says 70000", "10 more expected"),
    "says-less": ("it has 69990 bytes and the registry says 70000", UNSEEN),
    "says-a-petabyte": ("it has 1000000000000000 bytes and", "it has 1,000,000,000,000,000 bytes"),
    "says-nonsense": (None, LENGTHLESS),
    "says-two-lengths": ("multiple unmatching values",) * 2,
    "says-less-than-none": (None, LENGTHLESS),
    "stall": ("Read timed out",) * 2,
    "silence": ("Read timed out",) * 2,
    "page": ("it is a web page",) * 2,
    "page-for-weights": ("it is a web page",) * 2,
    "wrong": ("its sha256 is", UNSEEN),
    "empty": ("it has 0 bytes and the registry says 70000", "it is empty"),
    "over": ("it goes on after 70000 bytes", LENGTHLESS),
    "endless": ("it goes on after 70000 bytes", "half of the room that is left on the disk"),
    "bomb": ("compressed (gzip), which was not asked for",) * 2,
    "packed": ("compressed (gzip), which was not asked for",) * 2,
    "less-than-a-chunk": ("the server's answer is not understood",) * 2,
    "framed-twice": ("framed as gzip, chunked, which was not asked for",) * 2,
    "framed-by-a-slip": ("framed as xchunked, which was not asked for",) * 2,
    "reset": ("reset by peer",) * 2,
    "reset-at-once": ("reset by peer",) * 2,
    "hang-up": ("closed connection without response",) * 2,
    "gibberish": ("BadStatusLine",) * 2,
    "long-header": ("LineTooLong",) * 2,
    "part-of-it": ("the server answers 206 Partial Content",) * 2,
    "bare-redirect": ("the server answers 302 Found",) * 2,
    **{code: (f"the server answers {code} ",) * 2 for code in WAYS if code.isdigit()},
}
TRIED = [(way, known) for way in TOLD for known in (True, False) if TOLD[way][not known] != UNSEEN]


def test_every_way_of_the_server_is_tried():
    assert set(TOLD) == set(WAYS)


@pytest.mark.parametrize(("way", "known"), TRIED)
def test_the_file_is_whole_or_there_is_a_line(way, known, server, get, cache, monkeypatch):
    impatient(monkeypatch, way)
    if way == "endless" and not known:
        disk = type("Disk", (), {"free": 1_000_000})
        monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    url = server.at(way)
    before = server.sent
    result = get(url, KNOWN if known else "")
    assert server.sent - before < FLOOD
    told = TOLD[way][not known]
    if told is None:
        assert result == (0, "")
        assert left(cache) == [cache / "one" / "one.pth"]
        assert (cache / "one" / "one.pth").read_bytes() == CONTENT
    else:
        expect_refused(result, url, cache, told)


@pytest.mark.parametrize(
    "fault", ["reset", "reset-at-once", "stall", "silence", "500", "503", "429"]
)
def test_a_fault_that_passes_is_tried_again(fault, server, get, cache, monkeypatch):
    impatient(monkeypatch, fault)
    for known in (KNOWN, ""):
        url = server.at(fault, "cut", "good")
        assert get(url, known) == (0, "")
        assert server.times(url) == 3
        assert (cache / "one" / "one.pth").read_bytes() == CONTENT
        (cache / "one" / "one.pth").unlink()


@pytest.mark.parametrize(("way", "times"), [("reset", 4), ("503", 4), ("404", 1), ("wrong", 1)])
def test_tries_have_an_end(way, times, server, get):
    url = server.at(way)
    assert get(url)[0] == 2
    assert server.times(url) == times


def test_pauses_grow(server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(_http, "PAUSE", 1.0)
    monkeypatch.setattr(_http.time, "sleep", pauses.append)
    get(server.at("503"))
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("asked", "waited"), [(7, 7), ("soon", 1), (-4, 1), ("9" * 30, None)])
def test_a_server_may_ask_to_wait(code, asked, waited, server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(_http, "PAUSE", 1.0)
    monkeypatch.setattr(_http.time, "sleep", pauses.append)
    status, err = get(server.at(busy(asked, code), "good"))
    if waited is None:
        assert (status, pauses) == (2, [])
        assert "and asks to wait" in err
    else:
        assert (status, pauses) == (0, [waited])


@pytest.mark.parametrize("asked", [3600, "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_a_wait_that_is_too_long_is_told_and_not_waited(asked, server, get, cache):
    url = server.at(busy(asked), "good")
    expect_refused(get(url), url, cache, "429 Too Many Requests and asks to wait")
    assert server.times(url) == 1


AWAY = [
    ("file:///etc/passwd", "it redirects to file:///etc/passwd, and only http and https"),
    ("FILE:///etc/passwd", "only http and https are followed"),
    ("ftp://127.0.0.1/x", "only http and https are followed"),
    ("data:text/plain,x", "only http and https are followed"),
    ("javascript:1", "only http and https are followed"),
    ("itself", "it redirects more than 10 times"),
    ("http://[::1", "an address that is not understood"),
    ("\xff\xfe", "an address that is not understood"),
    ("http://127.0.0.1:port/", "an address that is not understood"),
    ("http://127.0.0.1:1/\x01\x1b[2J", "Connection refused"),
    ("//" + "a" * 300 + ".com/", ""),
]


@pytest.mark.parametrize(("where", "told"), AWAY)
def test_a_redirect_that_leads_astray_is_a_line(where, told, server, get, cache):
    for known in (KNOWN, ""):
        url = server.at(redirect(where))
        expect_refused(get(url, known), url, cache, told)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_another_host_is_followed_only_to_a_file_whose_digest_is_known(
    code, server, other, get, cache
):
    away = other.at("good")
    url = server.at(redirect(away, code))
    told = "another host, 127.0.0.2, which is followed only if the registry has the file's sha256"
    expect_refused(get(url, ""), url, cache, told)
    expect_refused(get(url, f", size: {len(CONTENT)}"), url, cache, told)
    assert other.times(away) == 0
    assert get(url) == (0, "")
    assert (cache / "one" / "one.pth").read_bytes() == CONTENT


def test_an_address_of_two_hosts_leads_to_neither(server, other, get, cache):
    away = other.at("good")
    host, path = away.removeprefix("http://").split("/", 1)
    url = server.at(redirect(f"http://{host}\\@127.0.0.1/{path}"))
    expect_refused(get(url, ""), url, cache, "another host, 127.0.0.2, which is followed only if")
    assert other.times(away) == 0


def test_a_redirect_at_home_is_followed(server, get, cache):
    url = server.at(redirect(server.at(redirect(server.at("good").removeprefix(server.origin)))))
    assert get(url, "") == (0, "")
    assert (cache / "one" / "one.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("first", "host", "followed"),
    [
        ("a.org", "a.org", True),
        ("www.a.org", "a.org", True),
        ("a.org", "www.a.org", True),
        ("a.org", "files.a.org", True),
        ("files.a.org", "a.org", False),
        ("a.org", "ba.org", False),
        ("a.org", "a.org.evil.com", False),
        ("github.com", "release-assets.githubusercontent.com", True),
        ("github.com", "githubusercontent.com.evil.com", False),
        ("a.org", "release-assets.githubusercontent.com", False),
        ("a.org", "", False),
    ],
)
def test_home_is_a_host_and_what_is_below_it(first, host, followed):
    assert _at_home(first, host) is followed


@pytest.mark.parametrize("checked", [True, False])
def test_https_is_never_left(checked):
    for where in ("http://a.org/x", "file:///x", "ftp://a.org/x"):
        with pytest.raises(Unfit, match="from https to http|only http and https"):
            _next("https://a.org/", "https://a.org/", where, checked)
    assert _next("http://a.org/", "http://a.org/", "https://a.org/x", checked) == "https://a.org/x"


def test_the_body_of_a_redirect_or_an_error_is_not_read(server, get, cache):
    def flood(code, **fields):
        def answer(to):
            to.head(code, **fields)
            WAYS["over"](to)

        return answer

    for way in (flood(302, Location="/nowhere"), flood(503), flood(404)):
        before = server.sent
        url = server.at(way)
        expect_refused(get(url), url, cache, "the server answers")
        assert server.sent - before < 4 * FLOOD


def test_a_strangers_list_works_from_the_shell(server, tmp_path):
    url = server.at("503", "good")
    listed(tmp_path / "own.yaml", url)
    cache = tmp_path / "cache"
    own = {REGISTRY_VARIABLE: str(tmp_path / "own.yaml"), CACHE_VARIABLE: str(cache)}

    def shell(*words):
        command = [sys.executable, "-m", "whitebox_probe", *words]
        return subprocess.run(
            command, env={**os.environ, **own}, capture_output=True, text=True, check=False
        )

    done = shell("fetch", "one", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"one: {cache / 'one' / 'one.pth'}\n"
    listed(tmp_path / "own.yaml", server.at("page"))
    (cache / "one" / "one.pth").unlink()
    done = shell("fetch", "one")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is a web page" in done.stderr
    assert done.stderr.count("\n") == 1
    assert left(cache) == []
