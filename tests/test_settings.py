from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.compute.ray_jobs import RayCompute
from loopwright.compute.ray_start import create_token
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.settings import read_settings
from loopwright.store import MemoryMetadataStore
from loopwright.wiring import open_compute


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


def test_jobs_run_here_unless_a_cluster_is_chosen() -> None:
    chosen = {"LOOPWRIGHT_COMPUTE": "ray", "LOOPWRIGHT_RAY_EXCHANGE": "s3://bucket/jobs"}

    ray = read_settings(chosen, home=Path("/here")).ray

    assert read_settings({}).ray is None
    assert read_settings({"LOOPWRIGHT_COMPUTE": "local"}).ray is None
    assert ray is not None
    assert (ray.address, ray.token_file) == ("http://127.0.0.1:8265", Path("/here/ray.token"))
    assert (ray.exchange, ray.python) == ("s3://bucket/jobs", None)


def test_a_place_for_jobs_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="LOOPWRIGHT_COMPUTE is 'slurm'"):
        read_settings({"LOOPWRIGHT_COMPUTE": "slurm"})


def test_a_cluster_is_not_used_without_the_file_of_its_token(tmp_path: Path) -> None:
    settings = read_settings({"LOOPWRIGHT_COMPUTE": "ray"}, home=tmp_path / "home")
    metadata, clock = MemoryMetadataStore(SystemClock()), SystemClock()

    with pytest.raises(InvalidInputError, match=r"ray\.token: No such file"):
        open_compute(settings, metadata, clock)
    create_token(tmp_path / "home" / "ray.token")

    assert isinstance(open_compute(settings, metadata, clock), RayCompute)
