import pytest

import tireid
from tireid.runs.launcher_variables import check_variables

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS")


@pytest.fixture
def given(monkeypatch):
    """Return a function that leaves these variables of a launcher in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "abc"}, "RANK: expected a whole number from 0 .*'abc'.*type: unset RANK$"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK: .* got ''"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK: .*'-1'.*unset RANK WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE: expected a whole number from 1 .*'0'"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, "WORLD_SIZE: .*'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK: .*below WORLD_SIZE=2 .*'2'"),
        ({"MASTER_PORT": "abc"}, "MASTER_PORT: expected a whole number from 1 to 65535 .*'abc'"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT: .*'70000'"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID: .*'x'.*unset SLURM_PROCID"),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "2"}, "SLURM_PROCID: .*below SLURM_NTASKS=2"),
    ],
)
def test_a_variable_that_no_launcher_would_set_is_named(given, variables, message):
    given(**variables)
    with pytest.raises(ValueError, match=message):
        check_variables()


def test_variables_of_a_launcher_pass(given):
    given(RANK="1", LOCAL_RANK="1", WORLD_SIZE="2", MASTER_PORT="29500", SLURM_PROCID="0")
    check_variables()


def test_they_are_checked_before_the_package_imports_what_reads_them(given):
    given(RANK="abc")
    with pytest.raises(ValueError, match="RANK: expected a whole number"):
        _ = tireid.load
