"""Google Drive, the hub and pip's index answer badly: one line, and no file."""

import hashlib
import os
import subprocess
import zipfile

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.checkpoints.server import PAGE, WAYS, busy, directly, redirect, serving
from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.checkpoints import CACHE_VARIABLE, Checkpoint, _http, _services, fetch
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
    directly(monkeypatch)
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
        (busy(3600), "gdown cannot use the answer"),
        (TORN, "Download is incomplete"),
        (OTHER, "its sha256 is"),
        (a_flood, "it goes on after 70000 bytes, which is what the registry says"),
        (of_no_date, "gdown cannot use the answer"),
        (without_type, "gdown cannot use the answer"),
        ("reset-at-once", "ConnectionError"),
        ("gibberish", "ConnectionError"),
        ("stall", "gdown cannot use"),
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


LONG = "goes on after 70000 bytes, which is what the"
SIZE = "size"  # of a file that is not as long as the hub said, in the words of its client


@pytest.mark.parametrize("fields", [KNOWN, {}], ids=["known", "not known"])
@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("cut", "peer closed connection"),
        ("cut-without-length", SIZE),
        ("cut-chunked", "peer closed connection"),
        ("says-less", SIZE),
        ("says-more", "peer closed connection"),
        ("says-a-petabyte", "peer closed connection"),
        ("says-nonsense", "bad Content-Length"),
        ("stall", "timed out"),
        ("silence", "timed out"),
        ("page", SIZE),
        ("page-for-weights", "it is a web page"),
        ("empty", SIZE),
        ("over", LONG),
        ("endless", LONG),
        ("bomb", LONG),
        ("reset", "reset by peer"),
        ("reset-at-once", "reset by peer"),
        ("hang-up", "disconnected"),
        ("gibberish", "illegal status line"),
        ("403", "403"),
        ("404", "404"),
        ("429", "429"),
        ("500", "500"),
        ("503", "503"),
        (redirect("file:///etc/passwd"), "unsupported protocol"),
        (redirect("http://[::1"), "Invalid"),
        (redirect("itself"), "edirect"),
    ],
)
def test_what_the_hub_answers_is_a_line(way, told, fields, hub, server, get, cache):
    hub(way)
    expect_line(get(HUB, **fields), "huggingface.co/a/b, x.pth at main", told)
    assert blobs(cache.parent / "hub") == []
    assert server.sent < 30_000_000


def about(**changed):
    told = {"ETag": '"0123456789abcdef"', "X_Repo_Commit": "c" * 40, "Content_Length": 70_000}
    told = {name: value for name, value in (told | changed).items() if value is not None}
    return lambda to: to.head(**told)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (about(ETag=None), "ETag"),
        (about(ETag='""'), "the hub's client gave no file"),
        (about(ETag=f'"{"e" * 400}"'), "File name too long"),
        (about(X_Repo_Commit=None), "X-Repo-Commit"),
        (about(X_Repo_Commit="../../../../evil"), "Invalid pointer path"),
        (about(Content_Length=10**15), "Not enough free disk space"),
        (about(X_Linked_Size=10**15), "Not enough free disk space"),
        (about(Content_Length="abc"), "bad Content-Length"),
        (WAYS["403"], "LocalEntryNotFoundError"),
        (WAYS["404"], "LocalEntryNotFoundError"),
        (WAYS["429"], "LocalEntryNotFoundError"),
        (WAYS["500"], "LocalEntryNotFoundError"),
        (WAYS["gibberish"], "RemoteProtocolError"),
        (redirect("file:///etc/passwd"), "LocalEntryNotFoundError"),
        (redirect("itself"), "redirects"),
        (redirect("http://[::1"), "Invalid IPv6 URL"),
    ],
)
def test_what_the_hub_says_of_a_file_may_be_wrong(answer, told, hub, server, get, tmp_path):
    hub("good")
    server.about = answer
    expect_line(get(HUB, **KNOWN), "huggingface.co/a/b, x.pth at main", told)
    assert blobs(tmp_path) == []


def blobs(hub):
    return [path for path in left(hub) if path.parent.name == "blobs" or path.is_symlink()]


@pytest.mark.parametrize("fault", ["reset", "cut", "stall", "503", "429"])
def test_the_hub_is_asked_again_after_a_fault_that_passes(fault, hub, get, cache):
    hub(fault, "good")
    assert get(HUB, **KNOWN) == (0, "")
    assert [path.read_bytes() for path in blobs(cache.parent / "hub")] == [CONTENT] * 2


def test_a_wrong_file_of_the_hub_is_not_kept(hub, get, cache):
    hub("wrong")
    expect_line(get(HUB, **KNOWN), "its sha256 is")
    assert blobs(cache.parent / "hub") == []


def test_a_damaged_file_of_the_hub_is_set_aside_and_fetched_anew(hub, cache):
    hub("good")
    entry = Checkpoint("one", "crate", {"dim": 8}, HUB, **KNOWN)
    path = fetch(entry, progress=False)
    blob = path.resolve()
    blob.write_bytes(b"other")
    with pytest.warns(LoadWarning, match=r"0123456789abcdef\.damaged"):
        assert fetch(entry, progress=False) == path
    assert path.read_bytes() == CONTENT
    assert blob.with_name(f"{blob.name}.damaged").read_bytes() == b"other"


def test_the_hubs_client_is_left_as_it_was(hub, get):
    from huggingface_hub import logging
    from huggingface_hub.utils import are_progress_bars_disabled

    before = logging.get_verbosity(), are_progress_bars_disabled()
    for way in ("good", "404"):
        hub(way)
        get(HUB)
        assert (logging.get_verbosity(), are_progress_bars_disabled()) == before


# pip's index

WHEEL = {"kind": "wheel", "package": "thing", "version": "1.0", "member": "thing/w.pth"}


def as_wheel(write):
    def download(requirement, folder, progress):
        write(folder / "thing-1.0-py3-none-any.whl")
        return ""

    return download


def zipped(path, *, content=CONTENT, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as wheel:
        wheel.writestr("thing/w.pth", content)


def altered(change):
    def write(path):
        zipped(path)
        path.write_bytes(change(bytearray(path.read_bytes())))

    return write


def method(number):
    """The wheel with another method of compression, in both of its headers."""

    def change(content):
        at = content.index(b"PK\x01\x02")
        content[8:10] = content[at + 10 : at + 12] = bytes([number, 0])
        return content

    return change


def encrypted(content):
    at = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[at + 8] |= 1
    return content


def flipped(content):
    content[2000] ^= 255
    return content


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b""), "not a zip file"),
        (lambda path: path.write_bytes(PAGE), "not a zip file"),
        (altered(lambda content: content[:-30]), "not a zip file"),
        (altered(flipped), "thing-1.0"),
        (altered(method(99)), "compression"),
        (altered(encrypted), "encrypted"),
        (lambda path: zipped(path, content=b"\0" * (1 << 26)), "it goes on after 70000 bytes"),
        (lambda path: zipped(path, content=CONTENT[:9]), "it has 9 bytes"),
        (lambda path: zipped(path, content=CONTENT[::-1]), "its sha256 is"),
    ],
)
def test_what_an_index_gives_is_a_line(write, told, get, cache, monkeypatch):
    monkeypatch.setattr(_services, "_pip_download", as_wheel(write))
    expect_line(get(WHEEL, **KNOWN), "thing/w.pth in the wheel thing==1.0", told)
    assert left(cache) == []


def test_what_pip_says_is_data(get, monkeypatch):
    said = r"b'ERROR: \xff\xfe \x1b[2J' + b'x' * 9999"
    code = f"import sys; sys.stderr.buffer.write({said}); sys.exit(1)"
    run = subprocess.run
    python = _services.sys.executable
    monkeypatch.setattr(_services.subprocess, "run", lambda _, **o: run([python, "-c", code], **o))
    status, err = get(WHEEL)
    expect_line((status, err), "ERROR:")
    assert "\x1b" not in err
