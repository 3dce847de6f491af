"""Commands that take options say in one message what went wrong."""

import errno

import pytest
import torch

from tireid.cli.errors import one_message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a.csv: expected a table"), "error: a.csv: expected a table\n"),
        (OSError(errno.EROFS, "Read-only file system", "g"), "'g'; choose a folder that may be"),
        (OSError(errno.ENOSPC, "No space left", "g"), "make room there"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory; where the command has them"),
        (RuntimeError("can't allocate memory"), "--batch-size, or --workers 0"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n 4096"),
    ],
)
def test_what_the_user_or_the_machine_causes_is_one_message(capsys, error, said):
    with pytest.raises(SystemExit) as caught, one_message(2):
        raise error
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="ours"), one_message():
        raise RuntimeError("ours")
