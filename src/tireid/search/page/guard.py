"""Who may ask the page: this machine, or whoever knows the password."""

import base64
import binascii
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response

_HEADERS = {
    # Nothing is taken from elsewhere, and no other page may frame this one.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses hold queries
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MOST_WRONG, _SECONDS, _MOST_ADDRESSES = 10, 60.0, 10_000
Next = Callable[[Request], Awaitable[Response]]


def is_local(host: str) -> bool:
    """Return whether a server that listens on a host is reached from its own machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guard(app: FastAPI, password: str | None) -> None:
    """Answer only requests that may be made.

    A foreign page in the same browser may link to this one and no more. Without a password, the
    request must name this machine as its host: a page that points a name of its own to 127.0.0.1 is
    refused. With one, the browser asks for it (any user name); an address that gave a wrong one ten
    times within a minute waits for the next minute.

    Args:
        app: The application.
        password: The password; None: none is needed.
    """
    wrong = _WrongPasswords()

    @app.middleware("http")
    async def check(request: Request, call_next: Next) -> Response:  # pyright: ignore[reportUnusedFunction]
        if is_foreign(request):
            response = Response("expected a request of this page, got one of another", 403)
        elif password is None:
            refusal = Response("expected a request to localhost", 403)
            response = None if _names_this_machine(request) else refusal
        else:
            response = wrong.refusal(request, password)
        response = await call_next(request) if response is None else response
        response.headers.update(_HEADERS)
        return response


def _names_this_machine(request: Request) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:  # a broken IPv6 address
        return False
    return host is not None and is_local(host)


def is_foreign(request: Request) -> bool:
    """Return whether a page of elsewhere makes a request, other than by a link to this one."""
    told = request.headers
    if request.method == "GET" and told.get("sec-fetch-dest") == "document":
        return False
    if (site := told.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    origin = told.get("origin")
    return origin is not None and origin.partition("://")[2] != told.get("host")


class _WrongPasswords:
    """Counts wrong passwords by the address that sent them."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def refusal(self, request: Request, password: str) -> Response | None:
        """Return the answer to a request that does not know the password; None: it does."""
        address = "" if request.client is None else request.client.host
        count, since = self._counts.get(address, (0, 0.0))
        now = time.monotonic()
        if now - since > _SECONDS:
            count, since = 0, now
        if count >= _MOST_WRONG:
            text = f"expected a right password, got {_MOST_WRONG} wrong ones; wait a minute"
            return Response(text, 429, {"Retry-After": f"{_SECONDS:.0f}"})
        header = request.headers.get("authorization", "")
        if _knows(header, password):
            self._counts.pop(address, None)
            return None
        if header:
            self._counts[address] = count + 1, since
            if len(self._counts) > _MOST_ADDRESSES:
                self._counts.popitem(last=False)
        challenge = {"WWW-Authenticate": 'Basic realm="tireid", charset="UTF-8"'}
        return Response("expected the password", 401, challenge)


def _knows(header: str, password: str) -> bool:
    kind, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and secrets.compare_digest(given, password.encode())
