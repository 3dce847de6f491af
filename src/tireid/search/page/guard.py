"""Who may ask the page: this machine, or whoever knows the password."""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from fastapi import FastAPI, Request, Response

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
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
Next = Callable[[Request], Awaitable[Response]]


def is_local(host: str) -> bool:
    """Return whether a server that listens on a host is reached from its own machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guard(app: FastAPI, password: str | None) -> None:
    """Answer only requests that may be made.

    Without a password, the request must name this machine as its host: a foreign page in the same
    browser that points a name of its own to 127.0.0.1 is refused. With one, the browser asks for it
    (any user name).

    Args:
        app: The application.
        password: The password; None: none is needed.
    """

    @app.middleware("http")
    async def check(request: Request, call_next: Next) -> Response:  # pyright: ignore[reportUnusedFunction]
        if password is None:
            host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host")
            allowed = host in LOCAL_NAMES
            response = Response("expected a request to localhost", 403)
        else:
            allowed = _knows(request.headers.get("authorization", ""), password)
            challenge = {"WWW-Authenticate": 'Basic realm="tireid", charset="UTF-8"'}
            response = Response("expected the password", 401, challenge)
        if allowed:
            response = await call_next(request)
        response.headers.update(_HEADERS)
        return response


def _knows(header: str, password: str) -> bool:
    kind, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and secrets.compare_digest(given, password.encode())
