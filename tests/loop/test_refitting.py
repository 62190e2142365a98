from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError
from loopwright.data import Snapshot, Split
from loopwright.loop import refitting
from loopwright.loop.candidate import Candidate
from loopwright.loop.framing import all_rows, stored_part
from loopwright.loop.refitting import refit_of, settings_again
from loopwright.train import TrainingResult, fit_algorithm, get_algorithm
from loopwright.train.hyperparameter import checked_hyperparameters
from loopwright.train.training_data import TrainingData, TrainingPart


class _Kept:
    """Files and bytes by name, as the artifact store gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n = folder, 0

    def local_path(self, digest: str) -> Path:
        return self.folder / digest

    def get_bytes(self, digest: str) -> bytes:
        return (self.folder / digest).read_bytes()

    def put_file(self, path: Path) -> str:
        self.n += 1
        (self.folder / f"kept{self.n}").write_bytes(path.read_bytes())
        return f"kept{self.n}"


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    (tmp_path / "scratch").mkdir()
    return type(
        "W",
        (),
        {
            "artifacts": _Kept(tmp_path),
            "clock": SystemClock(),
            "scratch_folder": lambda _self: tmp_path / "scratch",
        },
    )()


def part(n: int, seed: int) -> TrainingPart:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return TrainingPart(X=X, y=X[:, 0] + 0.5 * X[:, 1] + 0.3 * rng.normal(size=n), weight=None)


def candidate(algorithm: str, best_iteration: int | None) -> Candidate:
    return Candidate(
        algorithm=algorithm,
        window="all",
        attempt=1,
        members={"training.json": "training.json", "predictor.npz": "sha256:old"},
        best_iteration=best_iteration,
        fit_s=0.1,
        score=0.2,
        meets=True,
        missed=(),
        figures={},
        threshold=0.3,
        how={"calibration": None},
    )


@pytest.mark.parametrize(
    ("algorithm", "length"),
    [
        ("lightgbm", "rounds"),
        ("xgboost", "rounds"),
        ("random-forest", "rounds"),
        ("neural-network", "epochs"),
        ("linear-learner", None),
        ("decision-tree", None),
        ("knn", None),
    ],
)
def test_what_was_chosen_on_rows_that_are_learnt_from_now_is_fixed(
    workspace: Any, algorithm: str, length: str | None
) -> None:
    learner = get_algorithm(algorithm)
    data = TrainingData(
        train=part(200, 1),
        validation=part(80, 2),
        n_classes=0,
        feature_names=("a", "b", "c"),
        class_names=(),
    )
    asked = {"rounds": 60} if length == "rounds" else {}
    first = fit_algorithm(learner, data, task="regression", hyperparameters=asked, seed=7)
    result = msgspec.convert(
        dict.fromkeys(TrainingResult.__struct_fields__, 0)
        | {"algorithm": algorithm, "task": "regression", "target_transform": "none"}
        | {"hyperparameters": dict(first.hyperparameters), "importance": [], "packages": {}}
        | {"best_iteration": first.best_iteration, "digests": {}},
        TrainingResult,
    )
    (workspace.artifacts.folder / "training.json").write_bytes(msgspec.json.encode(result))

    settings = settings_again(workspace, candidate(algorithm, first.best_iteration))
    again = fit_algorithm(learner, data, task="regression", hyperparameters=settings, seed=7)

    assert checked_hyperparameters(learner, settings)
    if length is not None:
        assert settings[length] == first.best_iteration == again.best_iteration
    else:
        assert dict(again.hyperparameters) == dict(first.hyperparameters)
    # with the same rows it is the same model
    assert np.allclose(
        first.predictor.predict_raw(data.validation.X),
        again.predictor.predict_raw(data.validation.X),
    )


def test_a_fit_that_cannot_be_made_is_refused_on_record_and_the_judged_one_goes_on(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.DataFrame({"a": [1.0], "y": [2.0]})
    monkeypatch.setattr(refitting, "all_rows", lambda *_: rows)
    failed = {"state": "failed", "reason": "it used more than 2 GiB"}
    winner = candidate("lightgbm", 40)

    def made(trained: Any) -> dict[str, Any]:
        monkeypatch.setattr(refitting, "_trained", trained)
        monkeypatch.setattr(refitting, "kept_job", lambda *_, **__: failed)
        loop: Any = None
        result = refitting.fitted_again(
            workspace, loop, loop, {}, winner, number=2, seconds=30, on_change=lambda _: None
        )
        assert refit_of(winner, result.output) is winner
        return result.output

    def broken(*_: Any) -> Any:
        raise BackendError("The queue is down.", hint="")

    assert made(broken)["told"] == (
        "A fit on all rows was refused (The queue is down); the judged one goes on."
    )
    assert "its training job failed: it used more than 2 GiB" in made(lambda *_: None)["told"]


def test_a_fit_on_all_rows_answers_as_the_judged_one_was_found_to() -> None:
    winner = candidate("lightgbm", 40)

    taken = refit_of(winner, {"taken": True, "members": {"a": "b"}, "best_iteration": 40})

    assert (taken.members, taken.threshold, taken.how) == ({"a": "b"}, 0.3, winner.how)
    assert refit_of(winner, None) is winner
    assert refit_of(winner, {"taken": False}) is winner


def test_all_rows_are_those_of_every_part_each_once_and_in_the_order_of_time(
    workspace: Any, tmp_path: Path
) -> None:
    source = pl.DataFrame({"id": range(-400, 0), "y": [n % 7 for n in range(400)]})
    shared = pl.DataFrame({"id": [290, 299], "y": [290 % 7, 299 % 7]})
    source = pl.concat([source, shared])  # the source holds two of the judged cases meanwhile
    live = pl.DataFrame({"id": range(300), "y": [n % 7 for n in range(300)]})
    source.write_parquet(tmp_path / "source")
    fresh = live.with_columns((pl.col("id") >= 50).alias("__fresh"))
    fresh.write_parquet(tmp_path / "live")
    snapshot = Snapshot(
        digest="source",
        n_rows=source.height,
        columns=(),
        fingerprint="",
        conversions=(),
        source="a.csv",
        taken_at=SystemClock().now(),
    )
    parts = {
        "snapshot": snapshot.to_json(),
        "live": {"digest": "live"},
        "validation": stored_part(workspace, live[175:225]),
        "test": stored_part(workspace, live[225:]),
    }
    split = type("S", (), {})()
    loop: Any = type("L", (), {})()
    loop.data, loop.problem = split, type("P", (), {"target": "y"})()
    loop.data.split = Split()

    every = all_rows(workspace, loop, parts, "all")
    recent = all_rows(workspace, loop, parts, "recent")

    assert sorted(every["id"]) == list(range(-400, 300))
    assert every["id"].to_list()[-250:] == list(range(50, 300))
    assert recent["id"].to_list() == list(range(50, 300))
