"""The command `tireid train`."""

from typing import Any

from tireid.cli import hydra_app


def _train(cfg: Any) -> float | None:
    from tireid.sweeps import grid
    from tireid.training.run import train

    if grid.is_job():
        return grid.run_job(cfg)
    return train(cfg).get(cfg.monitor)


def main() -> None:
    """Run `tireid train`: a training, a sweep, or one process of a distributed training."""
    if hydra_app.only_shows():
        hydra_app.run("train", _train)
    else:
        _run()


def _run() -> None:
    from tireid.checkpoints import stop_signals
    from tireid.console import say
    from tireid.training import launcher, processes
    from tireid.training.errors import clear_errors
    from tireid.training.run import train

    processes.exit_with_parent()
    with clear_errors():
        processes.join()
    stop_signals.listen(interrupts=True)
    try:
        if processes.is_started():
            launcher.run_as_rank(train)
        else:
            hydra_app.run("train", _train)
    except stop_signals.Stopped as stopped:
        if processes.rank() == 0:
            say(stopped.message, to_stderr=True)
        raise
    processes.leave()
