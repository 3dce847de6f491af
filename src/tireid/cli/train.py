"""The command `tireid train`."""

import hydra
from omegaconf import DictConfig
from rich.console import Console

from tireid.checkpoints import stop_signals
from tireid.files import conf_dir
from tireid.sweeps import grid
from tireid.training import launcher, processes
from tireid.training.errors import clear_errors, clear_message
from tireid.training.run import train


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
@clear_errors
def _hydra_main(cfg: DictConfig) -> float | None:
    if grid.is_job():
        return grid.run_job(cfg)
    return train(cfg).get(cfg.monitor)


def main() -> None:
    """Run `tireid train`."""
    processes.exit_with_parent()
    processes.join()
    stop_signals.listen()
    try:
        if processes.is_started():
            launcher.run_as_rank(train, clear_message)
        else:
            _hydra_main()
    except stop_signals.Stopped as stopped:
        if processes.rank() == 0:
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(stopped.message, markup=False)
        raise
