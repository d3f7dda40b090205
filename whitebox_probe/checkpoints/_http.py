"""Download over HTTP: bounded in bytes, in tries, in waits, and in where it may be led."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from whitebox_probe._core.gate import Unfit
from whitebox_probe._core.lines import shown
from whitebox_probe._core.progress import bar
from whitebox_probe.checkpoints._cache import Sink
from whitebox_probe.checkpoints._described import PAGE
from whitebox_probe.checkpoints._network import CONNECT_SECONDS

if TYPE_CHECKING:
    import requests

Answer = TypeVar("Answer")
READ_SECONDS = 30.0
TRIES = 4
PAUSE = 1.0  # seconds before the second try; each further one waits twice as long
MOST_WAIT = 60.0  # seconds that a server may ask to wait
REDIRECTS = 10
_CHUNK = 1 << 16
_BUSY = (408, 425, 429, 500, 502, 503, 504)
# A body that is cut short, as gdown tells it; a reset, which the hub's client gives up at.
_TORN = ("DownloadError", "ReadError")
# Hosts that serve the files of another's links.
_SAME_OWNER = {"github.com": "githubusercontent.com"}


class _Busy(Exception):  # noqa: N818 - a state of the server, which passes
    """A server that cannot answer now.

    Attributes: wait: seconds that it asks for, if it does.
    """

    def __init__(self, why: str, wait: float | None) -> None:
        super().__init__(why)
        self.wait = wait


def download(url: str, to: Sink, *, checked: bool, progress: bool) -> None:
    """Download what is at an address, with `tried`.

    Redirects stay on http and https, never leave https, and leave the host and its subdomains only
    for a file whose digest is known.

    Args: checked: whether the file's digest is known.
    Raises: Unfit, errors of requests and urllib3; CheckpointError if the disk refuses it.
    """
    import requests

    def once() -> None:
        with requests.Session() as session, _followed(session, url, checked) as answer:
            _receive(answer, to, checked, progress)

    tried(once, to.again)


def tried(once: Callable[[], Answer], again: Callable[[], None]) -> Answer:
    """Call what downloads; after a fault that may pass again, from the beginning.

    Args: again: called before each try.
    Raises: Unfit for a server that is busy for too long; what the call raises.
    """
    pause = PAUSE
    for last in (False,) * (TRIES - 1) + (True,):
        again()
        try:
            return once()
        except _Busy as busy:
            wait = pause if busy.wait is None else busy.wait
            if last or wait > MOST_WAIT:
                asks = f" and asks to wait {busy.wait:,.0f} s" if busy.wait else ""
                raise Unfit(f"{busy}{asks}") from busy
        except Exception as error:
            if last or not _may_pass(error):
                raise
            wait = pause
        time.sleep(wait)
        pause *= 2
    raise AssertionError("the last try returns or raises")


def _may_pass(error: Exception) -> bool:
    from requests import exceptions

    status = getattr(getattr(error, "response", None), "status_code", 0)
    lasting = (exceptions.SSLError, exceptions.ProxyError)
    passing = (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError)
    return (
        (isinstance(status, int) and status >= 500)
        or type(error).__name__ in _TORN
        or (isinstance(error, passing) and not isinstance(error, lasting))
    )


def _followed(session: "requests.Session", url: str, checked: bool) -> "requests.Response":
    """The answer at the end of all redirects.

    They are followed here because requests reads the whole body of each into memory.
    """
    ours: Any = session
    ours.get_redirect_target = lambda _: None
    first = url
    for _ in range(REDIRECTS + 1):
        answer = session.get(
            url,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            headers={"Accept-Encoding": "identity"},
        )
        if not answer.is_redirect:
            return answer
        with answer:
            url = _next(first, url, answer.headers["Location"], checked)
    raise Unfit(f"it redirects more than {REDIRECTS} times")


def _next(first: str, url: str, location: str, checked: bool) -> str:
    """Where a redirect leads.

    Raises: Unfit if that is not followed.
    """
    from urllib3.exceptions import LocationParseError

    try:
        target = urljoin(url, location.encode("latin-1").decode("utf-8"))
        parts = urlsplit(target)
        host, home = _host(target), _host(first)
    except (ValueError, LocationParseError) as error:
        raise Unfit("it redirects to an address that is not understood") from error
    if parts.scheme not in ("http", "https"):
        raise Unfit(f"it redirects to {shown(target)}, and only http and https are followed")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise Unfit("it redirects from https to http, where anybody could change it")
    if not checked and not _at_home(home, host):
        raise Unfit(
            f"it redirects to another host, {shown(host)}, which is followed only if the registry "
            "has the file's sha256"
        )
    return target


def _host(url: str) -> str:
    """The host that is asked for an address: two readers may see two of them in one."""
    from urllib3.util import parse_url

    return (parse_url(url).host or "").strip("[]")


def _at_home(first: str, host: str) -> bool:
    """Whether a host is the first one, below it, or serves its files."""
    first = first.removeprefix("www.")
    owned = [first, _SAME_OWNER.get(first, first)]
    return any(host == each or host.endswith(f".{each}") for each in owned)


def _receive(answer: "requests.Response", to: Sink, checked: bool, progress: bool) -> None:
    length = _expect_file(answer, to, checked)
    with bar(progress=progress, total=length, unit="B", unit_scale=True, ncols=79) as told:
        for chunk in _parts(answer):
            to.write(chunk)
            told.update(len(chunk))


def _parts(answer: "requests.Response") -> Iterator[bytes]:
    try:
        yield from answer.iter_content(_CHUNK)
    except ValueError as error:  # http.client reads "-5" as the size of a chunk
        raise Unfit("the server's answer is not understood") from error


def _expect_file(answer: "requests.Response", to: Sink, checked: bool) -> int | None:
    """The length of the file, if it is told.

    Raises: Unfit if the answer is no whole file, or cannot be one; _Busy.
    """
    status = f"the server answers {answer.status_code} {shown(answer.reason or '')}".rstrip()
    if answer.status_code in _BUSY:
        raise _Busy(status, _wait(answer.headers.get("Retry-After")))
    if answer.status_code != 200:
        raise Unfit(status)
    coding = answer.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise Unfit(f"the server sends it compressed ({shown(coding)}), which was not asked for")
    framed = answer.headers.get("Transfer-Encoding", "identity").strip().lower()
    if framed not in ("chunked", "identity"):  # of other ones the library makes a plain body
        raise Unfit(f"the server sends it framed as {shown(framed, 60)}, which was not asked for")
    chunked = framed == "chunked"
    told = answer.headers.get("Content-Length", "")
    if chunked or not (told.isascii() and told.isdigit()):
        if not chunked and not checked and to.size is None:
            raise Unfit(
                "neither the server nor the registry says how long it is, so that a part of it "
                "would pass for the whole"
            )
        return None
    length = int(told[:18])  # of more digits, too much all the same
    try:
        to.expect(length)
    except Unfit:
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise Unfit(PAGE) from None
        raise
    return length


def _wait(told: str | None) -> float | None:
    """The seconds that a server asks to wait, told as a number or a date; None for neither."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    if told is None:
        return None
    try:
        return Retry().parse_retry_after(told)
    except (InvalidHeader, ValueError, OverflowError):
        return None
