"""A table that no node of the cluster can hold is prepared on it all the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.compute import JobSpec, LocalCompute, Resources
from loopwright.compute.ray_jobs import RayCompute
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.prepare import suggest
from loopwright.prepare.partition import fit_partitions, transform_partitions
from loopwright.store import SqlMetadataStore
from loopwright.testing.ray_cluster import started_ray_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

NODE_GIB = 1
LIMIT = Resources(cpus=1, memory="600 MiB")
N_PARTS, N_ROWS, N_COLUMNS = 8, 500_000, 60
WHOLE = "import polars as pl; print(pl.read_parquet('parts/*.parquet').estimated_size('mb'))"


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[RayCompute]:
    if find_spec("ray") is None:
        pytest.skip("needs the extra `ray`")
    clock = SystemClock()
    with (
        started_ray_cluster(cpus=1, memory_gib=NODE_GIB) as cluster,
        closing(SqlMetadataStore(f"sqlite:///{tmp_path}/store.db", clock)) as metadata,
    ):
        cluster.join(cpus=1, memory_gib=NODE_GIB)
        yield RayCompute(
            metadata,
            tmp_path / "jobs",
            clock,
            cluster=cluster.client(),
            location=tmp_path / "artifacts",
            services=LocalCompute(metadata, tmp_path / "jobs", clock),
        )


def table_in_parts(folder: Path) -> list[Path]:
    """Write 1.8 GiB of numbers, little of it on the disk since each is one of a thousand."""
    rng = np.random.default_rng(7)
    paths = []
    for part in range(N_PARTS):
        columns: dict[str, Any] = {
            f"x{n:02}": rng.integers(0, 1000, N_ROWS) / (n + 1) for n in range(N_COLUMNS - 2)
        }
        columns["town"] = pl.Series(["north", "east", "south"])[rng.integers(0, 3, N_ROWS)]
        columns["y"] = columns["x00"] + rng.integers(0, 50, N_ROWS)
        frame = pl.DataFrame(columns)
        gone = pl.Series(rng.random(N_ROWS) < 0.1)
        frame = frame.with_columns(pl.when(~gone).then(pl.col("x01")).alias("x01"))
        path = folder / f"part-{part}.parquet"
        frame.write_parquet(path)
        path.chmod(0o444)
        paths.append(path)
    return paths


def test_a_table_larger_than_a_node_is_fitted_and_transformed_within_the_nodes_memory(
    compute: RayCompute, tmp_path: Path
) -> None:
    parts = table_in_parts(tmp_path)
    n_bytes = N_PARTS * N_ROWS * N_COLUMNS * 8
    assert n_bytes > 1.7 * (NODE_GIB << 30)
    sample = pl.read_parquet(parts[0], n_rows=2000)
    recipe = suggest(sample, "y", "regression", family="scaled")

    fitted = fit_partitions(compute, recipe, parts, "y", name="large", resources=LIMIT)
    made = transform_partitions(compute, fitted, parts, name="large", resources=LIMIT)

    few = pl.read_parquet(parts[3], n_rows=1000)
    answers = pl.read_parquet(made[3], n_rows=1000).to_numpy()
    np.testing.assert_array_equal(answers, fitted.transform(few))
    features = pl.scan_parquet(made)
    assert features.select(pl.len()).collect().item() == N_PARTS * N_ROWS
    # columns that were scaled by what all parts together have; the last tells where x01 is missing
    means = features.mean().collect(engine="streaming").to_numpy()[0]
    numbers = [n for n, name in enumerate(fitted.feature_names) if name.startswith("x")]
    missing = pl.scan_parquet(parts).select(pl.col("x01").is_null().mean()).collect().item()
    np.testing.assert_allclose(means[numbers[:-1]], 0.0, atol=1e-9)
    assert means[numbers[-1]] == pytest.approx(missing)
    jobs = compute.list_(kind="preparation")
    assert len(jobs) == N_PARTS + 1
    assert all(job.state.value == "succeeded" for job in jobs)
    assert all((job.peak_memory_mib or 0) < LIMIT.memory_mib for job in jobs)
    assert {job.host for job in jobs} == {"127.0.0.1"}

    # the limit is real: what holds the whole table does not get through
    whole = JobSpec(
        key="whole",
        name="whole",
        kind="test",
        command=(sys.executable, "-c", WHOLE),
        files={f"parts/{path.name}": path for path in parts},
        resources=LIMIT,
    )
    (job,) = compute.wait([compute.submit(whole).id])
    assert job.state.value == "failed"
    assert "its limit is 600 MiB (`resources.memory`)" in job.reason
    with pytest.raises(InvalidInputError, match=r"the largest node of the cluster has"):
        fit_partitions(
            compute, recipe, parts, "y", name="large", seed=8, resources=Resources(memory="2 GiB")
        )
