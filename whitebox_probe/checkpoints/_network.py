"""Whether a host answers, directly or through a proxy, and which errors are the network's."""

import base64
import socket
import urllib.request
from urllib.parse import SplitResult, unquote, urlsplit

from whitebox_probe._core.threads import Waiting

CONNECT_SECONDS = 3.0
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# Libraries that download for us, or that these use; httpx2 is httpx, renamed.
HTTP = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
LIBRARIES = (*HTTP, "huggingface_hub", "hf_xet", "gdown")


def unreachable(url: str) -> str:
    """Why the host of `url` cannot be reached, or nothing if it can; told within seconds.

    The libraries that download retry, and a name server that is away can hold a look-up for much
    longer than any of their timeouts; so one connection is tried first, in a thread that can be
    left. A proxy must also agree to connect to the host: some of the libraries ask one that
    refuses again and again.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read here, where one that is no number is told
        if not parts.hostname or "\0" in url:
            return "its address names no host"
    except ValueError as error:
        return f"its address is not understood: {error}"
    proxy = _proxy(parts)
    try:
        scheme, host, port = proxy.scheme, proxy.hostname, _port(proxy)
    except ValueError as error:  # urllib reads a port only when it is asked for
        return f"the proxy's address is not understood: {error}"
    if scheme not in PROXY_SCHEMES:
        return f"the proxy's address starts with '{scheme}', not one of {', '.join(PROXY_SCHEMES)}"
    outcome: list[str] = []

    def connect() -> None:
        try:
            with socket.create_connection((host or "", port), CONNECT_SECONDS) as connection:
                # Only a plain proxy is asked; one behind TLS or SOCKS speaks another language.
                through = proxy != parts and scheme == "http" and parts.scheme == "https"
                refusal = _asked(connection, parts, proxy) if through else ""
            outcome.append(refusal and f"the proxy {host} refuses: {refusal}")
        except OSError as error:
            outcome.append(f"{host} cannot be reached: {error}")
        except UnicodeError:  # a part is empty, too long, or no name
            outcome.append("its address names no host that there can be")

    thread = Waiting(connect)
    thread.start()
    thread.join(CONNECT_SECONDS + 0.5)
    silent = f"{host} cannot be reached: no answer in {CONNECT_SECONDS:.0f} s"
    return outcome[0] if outcome else silent


def is_of_network(error: BaseException) -> bool:
    """Whether an error is the network's, and no fault of the program that asked.

    The libraries have no error in common: those of httpx are not OSError, and huggingface_hub lets
    them through. So the class, or one that it is made from, tells by the library it is defined in.
    An ImportError that speaks of SOCKS is that of a proxy whose protocol needs another package.
    """
    if isinstance(error, ImportError):
        return "socks" in str(error).lower()
    homes = {made.__module__.partition(".")[0] for made in type(error).__mro__}
    return isinstance(error, OSError) or not homes.isdisjoint(LIBRARIES)


def _proxy(parts: SplitResult) -> SplitResult:
    """The proxy that the environment names for an address, or the address itself."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return parts
    return urlsplit(proxy if "//" in proxy else f"http://{proxy}")


def _port(parts: SplitResult) -> int:
    usual = {"https": 443, "http": 80}.get(parts.scheme, 1080)
    return parts.port or usual


def _asked(connection: socket.socket, parts: SplitResult, proxy: SplitResult) -> str:
    """Ask a proxy to connect to a host; gives what it answers unless it agrees."""
    host = f"{parts.hostname}:{_port(parts)}"
    lines = [f"CONNECT {host} HTTP/1.1", f"Host: {host}"]
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = connection.recv(1024).decode("latin-1").partition("\r\n")[0]
    status = answer.partition(" ")[2]
    return "" if status.startswith("2") else status or answer or "it hangs up"
