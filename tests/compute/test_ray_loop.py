"""A loop whose training runs on a cluster gives the models that this machine gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopwright as lw
from loopwright.compute import Capacity, LocalCompute, Resources
from loopwright.compute.ray_jobs import RayCompute
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_file
from loopwright.prepare import fit_recipe, suggest
from loopwright.prepare.partition import fit_partitions, transform_partitions
from loopwright.store import SqlMetadataStore
from loopwright.testing.ray_cluster import StartedRayCluster
from loopwright.train import TrainingSpec, training_job
from loopwright.train.distributed import train_in_parallel

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"
CHURN = Path(__file__).parents[3] / "shared" / "datasets" / "telco_churn.parquet"
LOOP_FILE = """\
name: houses
problem: {target: price, criteria: [{metric: mape, at_most: 0.24}]}
data: {source: {kind: file, path: houses.parquet}}
train:
  algorithms: [linear-learner, xgboost, lightgbm]
  hyperparameters: {lightgbm: {rounds: 60}, xgboost: {rounds: 60}}
  resources: {cpus: 1, memory: 2 GiB}
  workers: 2
deploy: {endpoint: houses}
"""


def test_the_models_of_a_cluster_are_those_of_this_machine_to_the_last_bit(
    cluster: StartedRayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.read_parquet(EXAMPLE / "houses.parquet")
    rows.gather_every(14).write_parquet(tmp_path / "houses.parquet")
    (tmp_path / "loop.yaml").write_text(LOOP_FILE)
    here = trained(tmp_path, home="here")

    on_cluster(cluster, monkeypatch)
    there = trained(tmp_path, home="there")

    assert here["outcome"] == there["outcome"] == "live"
    assert set(here["members"]) == {"linear-learner", "xgboost", "lightgbm"}
    assert there["members"] == here["members"]
    assert here["hosts"] != there["hosts"] == {"127.0.0.1"}


@pytest.mark.skipif(not CHURN.exists(), reason="the shared data sets are not here")
def test_customers_who_leave_are_learnt_by_two_workers_on_the_cluster_as_here(
    cluster: StartedRayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "target": "Churn",
        "algorithm": "lightgbm",
        "hyperparameters": {"rounds": 40, "class_weight": "balanced"},
        "workers": 2,
        "cpus": 1,
        "memory": "1 GiB",
    }
    customers = pl.read_parquet(CHURN)
    here = lw.train(customers, home=tmp_path / "here", **given)

    on_cluster(cluster, monkeypatch)
    there = lw.train(customers, home=tmp_path / "there", **given)
    again = there.rerun()

    assert dict(there.figures) == dict(here.figures)
    digests = [digest_file(job.job.out / "predictor.npz") for job in (here, there)]
    assert digests[0] == digests[1]
    assert again.is_same
    jobs = there.workspace.compute.list_(kind="training")
    assert [(job.labels["rank"], job.host) for job in jobs] == [
        ("0", "127.0.0.1"),
        ("1", "127.0.0.1"),
    ] * 2
    assert "validation" in str(there.metrics())


@contextmanager
def opened(cluster: StartedRayCluster, folder: Path) -> Iterator[tuple[LocalCompute, RayCompute]]:
    """Give the compute of this machine and that of the cluster, each with a home of its own."""
    clock = SystemClock()
    room = Capacity(cpus=4, memory_mib=4096)
    with (
        closing(SqlMetadataStore(f"sqlite:///{folder}/here.db", clock)) as mine,
        closing(SqlMetadataStore(f"sqlite:///{folder}/there.db", clock)) as theirs,
    ):
        services = LocalCompute(theirs, folder / "there" / "jobs", clock, capacity=room)
        yield (
            LocalCompute(mine, folder / "here" / "jobs", clock, capacity=room),
            RayCompute(
                theirs,
                folder / "there" / "jobs",
                clock,
                cluster=cluster.client(),
                location=folder / "there" / "artifacts",
                services=services,
            ),
        )


def test_a_table_in_parts_is_prepared_on_the_cluster_as_the_whole_is_here(
    cluster: StartedRayCluster, tmp_path: Path
) -> None:
    rows = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(20)
    parts = [tmp_path / f"part-{n}.parquet" for n in range(3)]
    for n, path in enumerate(parts):
        rows[n * 400 : (n + 1) * 400].write_parquet(path)
    whole = rows[:1200]
    recipe = suggest(whole, "price", "regression", family="linear")
    expected, _ = fit_recipe(recipe, whole.drop("price"), whole["price"].to_numpy(), seed=7)

    with opened(cluster, tmp_path) as (_, there):
        fitted = fit_partitions(there, recipe, parts, "price", name="houses")
        made = transform_partitions(there, fitted, parts, name="houses")

    assert fitted.to_json() == expected.to_json()
    features = pl.concat([pl.read_parquet(path) for path in made]).to_numpy()
    np.testing.assert_array_equal(features, expected.transform(whole))


@pytest.mark.parametrize("algorithm", ["xgboost", "lightgbm"])
def test_two_workers_on_the_cluster_train_the_model_of_two_workers_here(
    cluster: StartedRayCluster, tmp_path: Path, algorithm: str
) -> None:
    rows = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(6)
    rows[:2400].write_parquet(tmp_path / "train.parquet")
    rows[2400:].write_parquet(tmp_path / "validation.parquet")
    spec = training_job(
        TrainingSpec(
            algorithm=algorithm,
            task="regression",
            target="price",
            hyperparameters={"rounds": 40},
        ),
        name=f"houses/{algorithm}",
        recipe=suggest(rows[:2400], "price", "regression", family="tree").to_json(),
        train=tmp_path / "train.parquet",
        validation=tmp_path / "validation.parquet",
        resources=Resources(cpus=1, memory="1 GiB"),
        time_limit_s=400,
    )
    with opened(cluster, tmp_path) as (here, there):
        two_here = train_in_parallel(here, spec, workers=2)
        two_there = train_in_parallel(there, spec, workers=2)
        hosts = {job.labels["rank"]: job.host for job in there.list_(kind="training")}

    names = ("predictor.npz", "predictor.json", "recipe.json", "signature.json")
    assert [digest_file(two_there.out / name) for name in names] == [
        digest_file(two_here.out / name) for name in names
    ]
    assert hosts == {"0": "127.0.0.1", "1": "127.0.0.1"}


def on_cluster(cluster: StartedRayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every job from here on run on the cluster."""
    monkeypatch.setenv("LOOPWRIGHT_COMPUTE", "ray")
    monkeypatch.setenv("LOOPWRIGHT_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("LOOPWRIGHT_RAY_TOKEN_FILE", str(cluster.token_file))


def trained(folder: Path, *, home: str) -> dict[str, Any]:
    """Run the loop in a home of its own; return its models by digest, and where they were trained."""
    loop = lw.Loop(folder / "loop.yaml", home=folder / home)
    try:
        outcome = loop.run(on_news=lambda _: None).outcome
        (step,) = [step for step in loop.status().value.steps if step["stage"] == "train"]
        jobs = loop.jobs()
    finally:
        loop.stop()
    return {
        "outcome": outcome.state,
        "members": {
            model["algorithm"]: {
                # it tells times
                name: digest
                for name, digest in model["members"].items()
                if name != "training.json"
            }
            for model in step["output"]["jobs"]
        },
        "hosts": {job.host for job in jobs if job.kind == "training"},
    }
