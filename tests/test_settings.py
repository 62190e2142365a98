from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.settings import read_settings


def test_the_command_line_wins_over_the_environment_and_that_over_the_default() -> None:
    environment = {"LOOPWRIGHT_HOME": "/somewhere", "LOOPWRIGHT_USER": "ann"}

    assert read_settings(environment, home=Path("/here")).home == Path("/here")
    assert read_settings(environment).home == Path("/somewhere")
    assert read_settings({}).home == Path.cwd() / ".loopwright"
    assert read_settings(environment).user == "ann"


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_number_of_cpus_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidInputError, match="LOOPWRIGHT_CPUS"):
        read_settings({"LOOPWRIGHT_CPUS": value})
