"""A Ray cluster of two nodes that lives as long as the test session."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from loopwright.testing.ray_cluster import StartedRayCluster, started_ray_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[StartedRayCluster]:
    if find_spec("ray") is None:
        pytest.skip("needs the extra `ray`")
    with started_ray_cluster(cpus=1, memory_gib=2) as found:
        found.join(cpus=4, memory_gib=4)
        yield found
