"""A training of milliseconds, and signal handlers that a test may replace."""

import signal
import warnings

import lightning as L
import pytest
import torch
from torch import nn

from tireid.checkpoints import stop_signals
from tireid.checkpoints.last_checkpoint import AtomicCheckpointIO
from tireid.console import silence_expected_warnings
from tireid.data.resumable_loader import ResumableDataLoader
from tireid.tracking.csv_log import CsvLog


class Tiny(L.LightningModule):
    """A layer behind dropout, so that its losses depend on the RNG state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    @property
    def method(self):
        return self  # there is none apart

    def training_step(self, batch, batch_idx):
        loss = nn.functional.dropout(self.layer(batch)).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/R1", float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def train_dataloader(self):
        return ResumableDataLoader(ITEMS, batch_size=4, sampler=InOrder(), generator=OWN)

    def val_dataloader(self):
        return ResumableDataLoader(ITEMS, batch_size=8, generator=OWN)


class InOrder:
    """A sampler that can begin within an epoch, as those of tireid."""

    first = 0

    def skip(self, batches):
        self.first = 4 * batches

    def __iter__(self):
        first, self.first = self.first, 0
        return iter(range(first, len(ITEMS)))

    def __len__(self):
        return len(ITEMS)


OWN = torch.Generator()  # a loader without one draws from the global generator
ITEMS = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tiny():
    """Return the class of a model that trains in milliseconds, four steps an epoch."""
    return Tiny


@pytest.fixture
def tiny_trainer(tmp_path):
    """Return a function from callbacks to a trainer that writes below a folder."""

    def make(*callbacks, folder=tmp_path, **arguments):
        silence_expected_warnings()
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        return L.Trainer(
            accelerator="cpu",
            callbacks=list(callbacks),
            logger=CsvLog(str(folder)),
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            **{"max_epochs": 2, "enable_checkpointing": bool(callbacks)} | arguments,
        )

    return make


@pytest.fixture(autouse=True)
def _signals():
    """Leave the process's handlers as they were."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    stop_signals.reset()
    yield
    stop_signals.reset()
    for number, handler in handlers.items():
        signal.signal(number, handler)
