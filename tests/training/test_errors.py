"""Errors about what a config asks for are messages that name the setting."""

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from tireid.training.errors import clear_message


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [
        ("math.exp", "a", "must be real number"),
        ("math.exp", 1e10, "math range error"),
        ("torch.zeros", -1, "non-negative"),
        ("operator.truediv", 0, "truediv expected 2 arguments"),
    ],
)
def test_whatever_a_class_of_a_config_raises_names_its_setting(target, value, said):
    config = {"model": {"head": {"_target_": target, "_args_": [value]}}}
    with pytest.raises(InstantiationException) as raised:
        instantiate(config)
    message = clear_message(raised.value)
    assert message is not None
    assert said in message
    assert "full_key: model.head" in message


def test_an_error_of_our_own_keeps_its_traceback():
    assert clear_message(RuntimeError("negative dimension")) is None
