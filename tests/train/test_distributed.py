"""One model trained by several workers is as good as one worker's, and the same every time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from loopwright.compute import (
    Capacity,
    InlineCompute,
    Job,
    JobSpec,
    JobState,
    LocalCompute,
    Resources,
)
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.prepare import suggest
from loopwright.store import MemoryMetadataStore
from loopwright.train import TrainingSpec, training_job
from loopwright.train.distributed import check_workers, train_in_parallel
from loopwright.train.distributed_worker import shared
from loopwright.train.meeting import Meeting, Peers, join_meeting
from loopwright.train.ring import without_addresses
from loopwright.train.training_data import TrainingData, TrainingPart

HOUSES = Path(__file__).parents[2] / "examples" / "house-prices" / "houses.parquet"
COLUMNS = ("bedrooms", "bathrooms", "sqft_living", "sqft_lot", "grade", "yr_built", "lat", "long")


@pytest.fixture
def compute(tmp_path: Path) -> LocalCompute:
    room = Capacity(cpus=4, memory_mib=8192)
    metadata = MemoryMetadataStore(SystemClock())
    return LocalCompute(metadata, tmp_path / "jobs", SystemClock(), capacity=room)


def order(folder: Path, algorithm: str, **more: Any) -> JobSpec:
    rows = pl.read_parquet(HOUSES).select("price", *COLUMNS).gather_every(6)
    n_train = len(rows) * 4 // 5
    rows[:n_train].write_parquet(folder / "train.parquet")
    rows[n_train:].write_parquet(folder / "validation.parquet")
    spec = TrainingSpec(
        algorithm=algorithm,
        task="regression",
        target="price",
        target_transform="log",
        hyperparameters={"rounds": 80, **more},
    )
    return training_job(
        spec,
        name=f"houses/{algorithm}",
        recipe=suggest(rows[:n_train], "price", "regression", family="tree").to_json(),
        train=folder / "train.parquet",
        validation=folder / "validation.parquet",
        resources=Resources(cpus=1, memory="1 GiB"),
        time_limit_s=240,
    )


def mean_error(job: Job) -> float:
    answers = pl.read_parquet(job.out / "validation.parquet")
    return float((answers["prediction"] / answers["actual"] - 1).abs().mean())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["xgboost", "lightgbm"])
def test_two_workers_train_a_model_as_good_as_that_of_one_and_the_same_every_time(
    compute: LocalCompute, tmp_path: Path, algorithm: str
) -> None:
    spec = order(tmp_path, algorithm)

    alone = train_in_parallel(compute, spec, workers=1)
    first = train_in_parallel(compute, spec, workers=2)
    found = train_in_parallel(compute, spec, workers=2)
    for path in (first.out / "predictor.npz", first.out / "predictor.json"):
        assert path.is_file()
    digest = digest_file(first.out / "predictor.npz")
    native = {path.name: digest_file(path) for path in (first.out / "model").iterdir()}
    assert native
    compute.delete_files(first.id)
    again = train_in_parallel(compute, spec, workers=2)

    assert found == first
    assert digest_file(again.out / "predictor.npz") == digest
    assert {path.name: digest_file(path) for path in (again.out / "model").iterdir()} == native
    assert mean_error(again) == pytest.approx(mean_error(alone), rel=0.05)
    assert mean_error(alone) < 0.2
    assert {job.state for job in compute.list_()} == {JobState.SUCCEEDED}


def test_a_model_of_several_workers_does_not_tell_where_they_were() -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(60, 2))
    settings = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    model = lightgbm.train(settings, lightgbm.Dataset(X, X[:, 0]), num_boost_round=2)
    alone = model.model_to_string()
    assert "[machines: ]" in alone
    there = alone.replace("[machines: ]", "[machines: 10.0.0.1:4711,10.0.0.2:815]").replace(
        "[local_listen_port: 12400]", "[local_listen_port: 4711]"
    )

    assert there != alone
    assert without_addresses(there) == without_addresses(alone) == alone


@pytest.mark.slow
def test_when_one_worker_fails_the_others_are_stopped(
    compute: LocalCompute, tmp_path: Path
) -> None:
    spec = order(tmp_path, "xgboost")
    watching = threading.Thread(target=_stop_second, args=[compute])
    watching.start()

    with pytest.raises(BackendError, match=r"\(2 of 2\) is stopped"):
        train_in_parallel(compute, spec, workers=2)
    watching.join()

    assert all(job.state.has_ended for job in compute.list_())
    assert compute.find(f"{spec.key}/2-workers/0") is not None


@pytest.mark.slow
def test_two_submitters_on_a_full_machine_both_get_their_models(tmp_path: Path) -> None:
    metadata = MemoryMetadataStore(SystemClock())
    room = Capacity(cpus=2, memory_mib=8192)
    ended: dict[str, Job] = {}

    def train(algorithm: str) -> None:
        folder = tmp_path / algorithm
        folder.mkdir()
        compute = LocalCompute(metadata, tmp_path / "jobs", SystemClock(), capacity=room)
        spec = order(folder, algorithm)
        # no longer than the workers of one training need to find each other
        ended[algorithm] = train_in_parallel(compute, spec, workers=2, start_timeout_s=60)

    submitters = [threading.Thread(target=train, args=[name]) for name in ("xgboost", "lightgbm")]
    for each in submitters:
        each.start()
    for each in submitters:
        each.join()

    assert {job.state for job in ended.values()} == {JobState.SUCCEEDED}
    first, second = sorted(ended.values(), key=lambda job: job.started_at or job.submitted_at)
    assert first.ended_at is not None
    assert second.started_at is not None
    assert second.started_at >= first.ended_at


def test_workers_need_a_machine_that_starts_jobs_beside_each_other(tmp_path: Path) -> None:
    compute = InlineCompute(tmp_path / "jobs", SystemClock())

    with pytest.raises(InvalidInputError, match="Use LocalCompute, or one worker"):
        train_in_parallel(compute, order(tmp_path, "xgboost"), workers=2)


def _stop_second(compute: LocalCompute) -> None:
    while True:
        for job in compute.list_(labels={"rank": "1"}):
            compute.stop(job.id, grace_s=0.0)
            return


def test_an_algorithm_that_trains_in_one_process_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="knn trains in one process"):
        check_workers("knn", 2)
    with pytest.raises(InvalidInputError, match="0 workers"):
        check_workers("xgboost", 0)
    check_workers("knn", 1)


def test_every_training_row_goes_to_one_worker_and_all_validation_rows_to_each() -> None:
    part = TrainingPart(
        X=np.arange(22.0).reshape(11, 2), y=np.arange(11.0), weight=np.arange(11.0) + 1
    )
    data = TrainingData(train=part, validation=part, n_classes=0)

    shares = [shared(data, rank=rank, workers=3) for rank in range(3)]

    assert sorted(y for share in shares for y in share.train.y) == list(range(11))
    assert all((share.train.X[:, 0] == 2 * share.train.y).all() for share in shares)
    weights = [np.asarray(share.train.weight) for share in shares]
    assert all((weights[n] == shares[n].train.y + 1).all() for n in range(3))
    assert all(share.validation is part for share in shares)
    with pytest.raises(InvalidInputError, match="11 training rows"):
        shared(data, rank=0, workers=12)


def test_workers_meet_in_the_order_of_their_ranks_and_strangers_are_turned_away() -> None:
    meeting = Meeting("127.0.0.1", secret="right")
    met: dict[int, Peers] = {}
    refused: list[BackendError] = []

    def come(rank: int) -> None:
        met[rank] = join_meeting(
            meeting.address, f"host:{rank}", rank=rank, secret="right", timeout_s=20
        )

    def intrude() -> None:
        try:
            join_meeting(meeting.address, "evil:1", rank=1, secret="wrong", timeout_s=20)
        except BackendError as error:
            refused.append(error)

    stranger = threading.Thread(target=intrude)
    stranger.start()
    others = [threading.Thread(target=come, args=[rank]) for rank in (2, 1)]
    for thread in others:
        thread.start()

    connections = meeting.gather("host:0", n_workers=3, timeout_s=20)
    first = meeting.tell(connections, {"uri": "x"})
    for thread in (stranger, *others):
        thread.join()

    assert len(refused) == 1
    assert first.addresses == met[1].addresses == met[2].addresses == ("host:0", "host:1", "host:2")
    assert (met[2].rank, met[2].extra) == (2, {"uri": "x"})


def test_a_meeting_that_not_all_come_to_ends() -> None:
    meeting = Meeting("127.0.0.1", secret="right")

    with pytest.raises(BackendError, match="Only 1 of 2 workers came"):
        meeting.gather("host:0", n_workers=2, timeout_s=0.05)
