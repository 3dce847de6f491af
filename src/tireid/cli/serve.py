"""The command `tireid serve`."""

import argparse
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.cli.errors import one_message
from tireid.console import complain, say, show_warnings_in_one_line, silence_expected_warnings

PASSWORD_VARIABLE = "TIREID_PASSWORD"  # noqa: S105 -- its name


def main() -> None:
    """Run `tireid serve`."""
    arguments = _parse()
    silence_expected_warnings()
    show_warnings_in_one_line()
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        complain(f"expected {' and '.join(missing)}, got none: pip install -e '.[serve]'")
        sys.exit(1)
    import uvicorn  # late: optional, and the help needs none of them

    from tireid.search.index import Index
    from tireid.search.page.app import make_app
    from tireid.search.page.guard import is_local

    password = os.environ.get(PASSWORD_VARIABLE) or None
    if not is_local(arguments.host) and password is None:
        complain(
            f"host: expected 127.0.0.1, or a password for visitors from elsewhere, got "
            f"{arguments.host}; set {PASSWORD_VARIABLE}=..."
        )
        sys.exit(1)
    opened = {name: getattr(arguments, name) for name in ("model", "device", "runtime")}
    with one_message():
        _check_free(arguments.host, arguments.port)
        with Index.open(arguments.index, **opened) as index:
            _ = index.retriever  # or a clear error now
            app = make_app(index, password)
            say(f"http://{arguments.host}:{arguments.port}/ (Ctrl-C ends it)")
            uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")


def _check_free(host: str, port: int) -> None:
    """Refuse a taken port before a model is loaded, and by more than its number."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"port: expected a free one of {host}, got {port} ({error}); choose another by --port"
        ) from error


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid serve",
        description=(
            "Serve a page that searches an index. It listens on this machine only; elsewhere only "
            f"with a password, {PASSWORD_VARIABLE}=..., and better behind a proxy with TLS."
        ),
    )
    parser.add_argument(
        "index",
        nargs="?",
        type=Path,
        default=Path("gallery"),
        metavar="FOLDER",
        help="index that `tireid index` has made (default: gallery)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8600, help="port (default: 8600)")
    parser.add_model_of_index()
    return parser.parse()
