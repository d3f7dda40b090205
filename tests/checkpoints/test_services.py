"""Google Drive, the hub and pip's index answer badly: one line, and no file."""

import hashlib
import os

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.checkpoints.server import PAGE, WAYS, busy, serving
from whitebox_probe.checkpoints import CACHE_VARIABLE, Checkpoint, _http, _services
from whitebox_probe.cli import main as cli

CONTENT = os.urandom(70_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KNOWN = {"sha256": DIGEST, "size": len(CONTENT)}


@pytest.fixture
def server():
    with serving(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(_http, "PAUSE", 0.0)
    return tmp_path / "cache"


def left(folder):
    here = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return [path for path in here if path.suffix not in (".lock", ".TAG") and path.name != ".lock"]


@pytest.fixture
def get(monkeypatch, capsys):
    """Fetch from a source through the command line; the status and what is on stderr."""

    def fetch(source, **fields):
        entry = Checkpoint("one", "crate", {"dim": 8}, source, **fields)
        monkeypatch.setattr("whitebox_probe.cli._shared.named", lambda _: entry)
        status = cli.main(["fetch", "one", "--quiet"])
        return status, capsys.readouterr().err

    return fetch


def expect_line(result, *told):
    status, err = result
    assert status == 2
    assert err.count("\n") == 1
    assert len(err) < 500
    for each in told:
        assert each in err


# Google Drive

DRIVE = {"kind": "gdrive", "id": "abc", "filename": "x.pth"}


@pytest.fixture
def drive(server, monkeypatch):
    """Google Drive, as far as gdown sees."""
    pytest.importorskip("gdown")
    usual = requests.session

    class Here(HTTPAdapter):
        def send(self, request, **options):
            request.url = f"{server.origin}/drive"
            return super().send(request, **options)

    def session():
        made = usual()
        made.mount("https://", Here())
        return made

    monkeypatch.setattr(requests, "session", session)
    monkeypatch.setattr(_services, "unreachable", lambda _: "")
    monkeypatch.setattr(_http, "READ_SECONDS", 5.0)
    return lambda *steps: server.plan("/drive", *steps)


def a_file(to, *, length=None, content=None, **fields):
    content = to.server.content if content is None else content
    length = len(content) if length is None else length
    told = {"Content_Disposition": 'attachment; filename="x.pth"', **fields}
    to.head(Content_Length=length, Content_Type="application/octet-stream", **told)
    to.body(content)


def a_page(text):
    def answer(to):
        to.head(Content_Length=len(text), Content_Type="text/html; charset=utf-8")
        to.body(text.encode())

    return answer


QUOTA = a_page(
    '<html><p class="uc-error-caption">Sorry</p><p class="uc-error-subcaption">Too many users '
    "have viewed or downloaded this file recently.</p></html>"
)
SCAN = a_page(
    '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="hidden" name="id" value="abc"><input type="hidden" name="confirm" value="t">'
    "</form>"
)
TORN = lambda to: a_file(to, content=CONTENT[:1000], length=len(CONTENT))  # noqa: E731
OTHER = lambda to: a_file(to, content=CONTENT[::-1])  # noqa: E731


def a_flood(to):
    to.head(Content_Disposition='attachment; filename="x.pth"', Content_Type="x/y")
    WAYS["over"](to)


def without_type(to):
    to.head(Content_Length=len(CONTENT))
    to.body(CONTENT)


def of_no_date(to):
    a_file(to, Last_Modified="yesterday")


def as_page(to):
    a_file(to, content=PAGE)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (QUOTA, "Too many users have viewed or downloaded this file recently"),
        (a_page("<html>Sign in</html>"), "Cannot retrieve the public link of the file"),
        (a_page(""), "Cannot retrieve the public link of the file"),
        (as_page, "it is a web page"),
        ("401", "Cannot retrieve the public link"),
        ("403", "Cannot retrieve the public link"),
        ("404", "Cannot retrieve the public link"),
        ("429", "Cannot retrieve the public link"),
        ("500", "Cannot retrieve the public link"),
        (busy(3600), "gdown does not understand the answer"),
        (TORN, "Download is incomplete"),
        (OTHER, "its sha256 is"),
        (a_flood, "it goes on after 70000 bytes, which is what the registry says"),
        (of_no_date, "gdown does not understand the answer"),
        (without_type, "gdown does not understand the answer"),
        ("reset-at-once", "ConnectionError"),
        ("gibberish", "ConnectionError"),
        ("stall", "gdown does not understand"),
        ("silence", "ReadTimeout"),
    ],
)
def test_what_google_drive_answers_is_a_line(step, told, drive, server, get, cache, monkeypatch):
    if step in ("stall", "silence"):
        monkeypatch.setattr(_http, "READ_SECONDS", 0.2)
    drive(step)
    expect_line(get(DRIVE, **KNOWN), "https://drive.google.com/uc?id=abc", told)
    assert left(cache) == []
    assert server.sent < 20_000_000


@pytest.mark.parametrize("steps", [(a_file,), (SCAN, a_file), (TORN, "reset-at-once", a_file)])
def test_google_drive_gives_the_file(steps, drive, get, cache):
    drive(*steps)
    assert get(DRIVE, **KNOWN) == (0, "")
    assert (cache / "one" / "x.pth").read_bytes() == CONTENT
    assert left(cache) == [cache / "one" / "x.pth"]


# The hub

HUB = {"kind": "huggingface", "repo": "a/b", "file": "x.pth", "revision": "main"}


@pytest.fixture
def hub(server, monkeypatch):
    template = server.origin + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.origin)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return lambda *steps: server.plan("/a/b/resolve/main/x.pth", *steps)


def blobs(cache):
    return [path for path in left(cache.parent / "hub") if path.parent.name == "blobs"]


def test_the_hub_gives_the_file(hub, get, server):
    hub("good")
    print(get(HUB, **KNOWN), server.asked)
    assert 0
