"""What stands in a case for a server, for processes and for the network."""

import os
from typing import Any

_QUERIES = (
    "/about",
    "/search?q=a+red+coat",
    "/results.csv?q=a+red+coat&where=camera=1",
    "/image/1?thumb=true",
    "/page.html",
)


def install(command: list[str]) -> None:
    """Let a command ask its own server, and train in no process of its own.

    Args:
        command: Arguments of `tireid`.
    """
    if command[0] == "serve":
        import uvicorn

        uvicorn.run = _ask
    if command[0] in ("train", "tune"):
        from tireid.sweeps import grid, tune

        grid._run = lambda _: 1  # a job that fails
        tune.run_in_process = lambda *_: {"val/R1": 50.0, "val/mAP": 50.0}
    if "logger=wandb" in command:
        os.environ["WANDB_MODE"] = "offline"
        import wandb

        wandb.init = _fail


def _fail(*_: Any, **__: Any) -> None:
    raise OSError("no process for wandb here")


def _ask(app: Any, **_: Any) -> None:
    """Ask a server what its page asks; an error in it that it does not catch is raised."""
    from fastapi.testclient import TestClient

    client = TestClient(app, base_url="http://127.0.0.1:8600")
    for query in _QUERIES:
        client.get(query)
    answer = client.get(_QUERIES[1])
    for found in answer.json()[:3] if answer.status_code == 200 else ():
        client.get(f"/image/{found['id']}?thumb=true")
