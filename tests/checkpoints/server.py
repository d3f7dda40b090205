"""A web server that does what bad ones do; each address follows a plan of its own."""

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"
MEGABYTE = 1 << 20
# What a server would send unless it is stopped, so that a client that fails to stop still ends.
ENDLESS = 256 * MEGABYTE


def directly(monkeypatch: Any) -> None:
    """Have every library ask the host itself, whatever the environment says of proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Handler(BaseHTTPRequestHandler):
    """Answers with the next step of the plan that belongs to the path."""

    server: "Server"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answering.append(threading.current_thread())
        try:
            self.server.step(self.path)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_HEAD(self) -> None:
        """Answer as the Hugging Face hub does when it is asked about a file."""
        self.server.about(self)

    def head(self, status: int = 200, **fields: Any) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        self.server.sent += len(content)
        self.wfile.write(content)
        self.wfile.flush()

    def chunk(self, content: bytes) -> None:
        self.body(b"%x\r\n%s\r\n" % (len(content), content))


class Server(ThreadingHTTPServer):
    """The server; `asked` are the paths that were asked for, `sent` the bytes of all bodies."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, content: bytes, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.content = content
        self.closing = threading.Event()
        self.about: Callable[[Handler], None] = of_the_hub
        self.asked: list[str] = []
        self.sent = 0
        self.answering: list[threading.Thread] = []
        self._plans: dict[str, list[Callable[[Handler], None]]] = {}
        self._lock = threading.Lock()

    @property
    def origin(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what is tested."""

    def at(self, *steps: str | Callable[[Handler], None]) -> str:
        """An address that does one step a request, and the last one from then on."""
        return self.origin + self.plan(f"/{len(self._plans)}.pth", *steps)

    def plan(self, path: str, *steps: str | Callable[[Handler], None]) -> str:
        """Give a path its steps."""
        self._plans[path] = [WAYS[each] if isinstance(each, str) else each for each in steps]
        return path

    def times(self, url: str) -> int:
        """How often an address was asked for."""
        return self.asked.count(url.removeprefix(self.origin))

    def step(self, path: str) -> Callable[[Handler], None]:
        with self._lock:
            plan = self._plans.get(path, [WAYS["404"]])
            return plan.pop(0) if len(plan) > 1 else plan[0]


def of_the_hub(to: Handler) -> None:
    """What the hub says of a file: its digest, its revision, its length."""
    length = len(to.server.content)
    to.head(ETag='"0123456789abcdef"', X_Repo_Commit="c" * 40, Content_Length=length)


@contextmanager
def serving(content: bytes, host: str = "127.0.0.1") -> Iterator[Server]:
    with Server(content, host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
            for each in server.answering:
                each.join(20)  # no thread at work is left to the next tests


def good(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content))
    to.body(to.server.content)


def without_length(to: Handler) -> None:
    to.head()
    to.body(to.server.content)


def chunked(to: Handler) -> None:
    to.protocol_version = "HTTP/1.1"
    to.head(Transfer_Encoding="chunked")
    to.chunk(to.server.content)
    to.chunk(b"")
    to.close_connection = True


def cut(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content))
    to.body(to.server.content[: len(to.server.content) // 2])


def cut_without_length(to: Handler) -> None:
    to.head()
    to.body(to.server.content[: len(to.server.content) // 2])


def cut_chunked(to: Handler) -> None:
    to.protocol_version = "HTTP/1.1"
    to.head(Transfer_Encoding="chunked")
    to.chunk(to.server.content[: len(to.server.content) // 2])
    to.close_connection = True


def says_more(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content) + 10)
    to.body(to.server.content)


def says_less(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content) - 10)
    to.body(to.server.content)


def says_a_petabyte(to: Handler) -> None:
    to.head(Content_Length=10**15)
    to.body(to.server.content)


def says_nonsense(to: Handler) -> None:
    to.head(Content_Length="abc")
    to.body(to.server.content)


def says_two_lengths(to: Handler) -> None:
    to.head(Content_Length="5, 7")
    to.body(to.server.content)


def says_less_than_none(to: Handler) -> None:
    to.head(Content_Length=-5)
    to.body(to.server.content)


def stall(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content))
    to.body(to.server.content[: len(to.server.content) // 2])
    to.server.closing.wait(30)


def silence(to: Handler) -> None:
    to.server.closing.wait(30)


def slow(to: Handler) -> None:
    """The whole of it, over two seconds."""
    to.head(Content_Length=len(to.server.content))
    part = len(to.server.content) // 20 + 1
    for at in range(0, len(to.server.content), part):
        to.body(to.server.content[at : at + part])
        to.server.closing.wait(0.1)


def page(to: Handler) -> None:
    to.head(Content_Length=len(PAGE), Content_Type="text/html; charset=utf-8")
    to.body(PAGE)


def page_for_weights(to: Handler) -> None:
    """A page of the length that the file should have."""
    content = PAGE + b" " * (len(to.server.content) - len(PAGE))
    to.head(Content_Length=len(content), Content_Type="application/octet-stream")
    to.body(content)


def wrong(to: Handler) -> None:
    content = bytes([to.server.content[0] ^ 1]) + to.server.content[1:]
    to.head(Content_Length=len(content))
    to.body(content)


def empty(to: Handler) -> None:
    to.head(Content_Length=0)


def over(to: Handler) -> None:
    """More than the known size, with no length told."""
    to.head()
    to.body(to.server.content)
    _go_on(to, to.body)


def endless(to: Handler) -> None:
    to.protocol_version = "HTTP/1.1"
    to.head(Transfer_Encoding="chunked")
    _go_on(to, to.chunk)
    to.close_connection = True


def _go_on(to: Handler, send: Callable[[bytes], None]) -> None:
    for _ in range(ENDLESS // MEGABYTE):
        if to.server.closing.is_set():
            break
        send(b"x" * MEGABYTE)


@cache
def _bomb() -> bytes:
    return gzip.compress(b"\0" * (16 * MEGABYTE), 9)


def bomb(to: Handler) -> None:
    packed = _bomb()
    to.head(Content_Length=len(packed), Content_Encoding="gzip")
    to.body(packed)


def packed(to: Handler) -> None:
    content = gzip.compress(to.server.content)
    to.head(Content_Length=len(content), Content_Encoding="gzip")
    to.body(content)


def less_than_a_chunk(to: Handler) -> None:
    to.protocol_version = "HTTP/1.1"
    to.head(Transfer_Encoding="chunked")
    to.chunk(to.server.content[: len(to.server.content) // 2])
    to.body(b"-5\r\n")
    to.close_connection = True


def framed_twice(to: Handler) -> None:
    to.head(Transfer_Encoding="gzip, chunked")
    to.chunk(to.server.content)
    to.chunk(b"")


def framed_by_a_slip(to: Handler) -> None:
    to.head(Transfer_Encoding="xchunked")
    to.body(to.server.content[: len(to.server.content) // 2])


def reset(to: Handler) -> None:
    to.head(Content_Length=len(to.server.content))
    to.body(to.server.content[: len(to.server.content) // 2])
    _reset(to)


def reset_at_once(to: Handler) -> None:
    _reset(to)


def _reset(to: Handler) -> None:
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    to.wfile.close()
    to.rfile.close()
    to.connection.close()
    to.close_connection = True


def hang_up(to: Handler) -> None:
    to.close_connection = True


def gibberish(to: Handler) -> None:
    to.wfile.write(b"\x16\x03\x01 no HTTP \x1b[2J\r\n\r\n")


def long_header(to: Handler) -> None:
    to.wfile.write(b"HTTP/1.0 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")


def part_of_it(to: Handler) -> None:
    """A range that nobody asked for."""
    half = len(to.server.content) // 2
    to.head(206, Content_Length=half, Content_Range=f"bytes 0-{half - 1}/{half * 2}")
    to.body(to.server.content[:half])


def status(code: int, **fields: Any) -> Callable[[Handler], None]:
    def answer(to: Handler) -> None:
        to.head(code, Content_Length=len(PAGE), Content_Type="text/html", **fields)
        to.body(PAGE)

    return answer


def redirect(to_where: str, code: int = 302) -> Callable[[Handler], None]:
    def answer(to: Handler) -> None:
        to.send_response(code)
        to.wfile.write(b"".join(to._headers_buffer))  # type: ignore[attr-defined]
        to._headers_buffer = []  # type: ignore[attr-defined]
        where = to.path if to_where == "itself" else to_where
        to.wfile.write(b"Location: " + where.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n")

    return answer


def bare_redirect(to: Handler) -> None:
    to.head(302, Content_Length=0)


def busy(wait: object, code: int = 429) -> Callable[[Handler], None]:
    return partial(_busy, wait, code)


def _busy(wait: object, code: int, to: Handler) -> None:
    to.head(code, Content_Length=0, Retry_After=wait)


WAYS: dict[str, Callable[[Handler], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        *(good, without_length, chunked, cut, cut_without_length, cut_chunked, says_more),
        *(says_less, says_a_petabyte, says_nonsense, says_two_lengths, says_less_than_none),
        *(stall, silence, slow, page, page_for_weights, wrong, empty, over, endless, bomb),
        *(less_than_a_chunk, framed_twice, framed_by_a_slip),
        *(packed, reset, reset_at_once, hang_up, gibberish, long_header, part_of_it),
        bare_redirect,
    )
} | {str(code): status(code) for code in (204, 400, 401, 403, 404, 410, 429, 500, 502, 503)}
