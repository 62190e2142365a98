from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import loopwright as lw
from loopwright.compute import JobState
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.notebook.curve import curve_svg
from loopwright.notebook.job_keeping import rerun
from loopwright.notebook.training_job import TrainingJob, follow
from loopwright.train import open_bundle

EXAMPLE = Path(__file__).parents[1] / "examples" / "house-prices"
SMALL: dict[str, Any] = {"cpus": 0.5, "memory": "400 MiB"}


def script(folder: Path, code: str) -> Path:
    path = folder / "train.py"
    path.write_text(code)
    return path


def test_the_stage_is_a_verb_of_the_session_as_well() -> None:
    from loopwright.train import Predictor

    assert callable(lw.train)
    assert lw.train.Predictor is Predictor  # type: ignore[attr-defined]


def test_a_job_is_waited_for_shown_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
import os
print(sorted(os.listdir(os.environ["SM_CHANNEL_ROWS"])), open(os.environ["SM_CHANNEL_ROWS"] + "/rows.csv").read())
for n in range(20): print("loss:", 1 / (n + 1))
open(os.environ["SM_MODEL_DIR"] + "/m.txt", "w").write("m")
"""
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})

    job = lw.train(
        script=script(tmp_path, code),
        channels={"rows": table},
        metrics={"loss": "loss: ([0-9.]+)"},
        home=tmp_path / "home",
        **SMALL,
    )
    assert job.wait() is job

    assert "['rows.csv'] a,b\n1,x\n2,y\n" in capsys.readouterr().out
    assert (job.state, job.reason) == ("succeeded", "")
    assert job.metrics().columns == ["name", "step", "value"]
    assert job.metrics()["value"].to_list()[:2] == [1.0, 0.5]
    assert job.model.name == "model.tar.gz"
    shown = job._repr_html_()
    assert "succeeded" in shown
    assert "<polyline" in shown
    assert "loss: 0.05" in shown
    again = lw.job(job.id, home=tmp_path / "home")
    assert again.logs(tail=1) == "loss: 0.05\n"
    with pytest.raises(WrongStateError, match="cannot be tried again"):
        again.retry()


def test_a_failed_job_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    code = """
import os, sys
if not os.path.exists("/opt/ml/checkpoints/half"):
    open("/opt/ml/checkpoints/half", "w").close()
    sys.exit("<out of luck>")
"""
    given = {"PLAIN": "1", "A_TOKEN": "2"}
    job = lw.train(script=script(tmp_path, code), home=tmp_path / "home", env=given, **SMALL)

    with pytest.raises(BackendError, match="<out of luck>"):
        job.wait(show=False)
    assert "&lt;out of luck&gt;" in job._repr_html_()
    with pytest.raises(WrongStateError, match="has left no model"):
        _ = job.model
    with pytest.raises(
        InvalidInputError, match="environment variable 'A_TOKEN', whose value is not"
    ):
        job.retry()
    again = job.retry(env={"A_TOKEN": "2"}).wait(show=False)
    assert (again.state, again.job.attempt) == ("succeeded", 2)


def test_a_job_is_watched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Cell:
        def update(self, job: TrainingJob) -> None:
            shown.append(job._repr_html_())

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Cell())
    code = "import time; time.sleep(0.3)"
    job = lw.train(script=script(tmp_path, code), home=tmp_path / "home", **SMALL)

    job.watch(every_s=0.05)

    assert "succeeded" not in shown[0]
    assert "succeeded" in shown[-1]


def test_a_job_is_stopped(tmp_path: Path) -> None:
    job = lw.train(
        script=script(tmp_path, "import time; time.sleep(60)"), home=tmp_path / "home", **SMALL
    )

    assert job.stop(grace_s=5).state == "stopped"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Give either a script or data"),
        ({"data": "loop.yaml", "script": "train.py"}, "A script takes its data from channels"),
        ({"data": "loop.yaml", "channels": {"a": "."}}, "channels belongs to a script"),
        ({"data": pl.DataFrame({"a": [1]})}, "does not say what is to be learnt"),
        ({"data": pl.DataFrame({"a": [1]}), "target": "b"}, "no column 'b' to learn"),
        ({"data": "loop.yaml", "target": "a"}, "target is said by the loop file"),
        ({"data": "loop.yaml", "name": "a"}, "name is said by the loop file"),
        ({"script": "train.py", "channels": {"a": 7}}, "channels.a is a int"),
        ({"data": 7, "target": "a"}, "data is a int"),
    ],
)
def test_what_does_not_go_together_is_named(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lw.train(**given, home=tmp_path / "home")

    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 2, "algorithm": "knn"}, "workers is 2, and knn trains in one process"),
        ({"workers": 200, "cpus": 1}, r"workers is 200.* this machine can run \d+ of 1 CPUs"),
        ({"limits": {"lg": "1 MiB"}}, "no limit 'lg'. Did you mean 'log'"),
        ({"limits": {"processes": "many"}}, "limits cannot be"),
        ({"retries": -1}, r"train\.retries is out of range"),
        ({"hyperparameters": {"num_leafs": 3}}, "num_leafs.* Did you mean 'num_leaves'"),
        ({"hyperparameters": {"class_weight": "balanced"}}, "which has no classes"),
    ],
)
def test_what_no_job_can_do_is_refused_and_nothing_is_trained(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    frame = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(16)

    with pytest.raises(InvalidInputError, match=message):
        lw.train(frame, target="price", home=tmp_path / "home", **given)

    assert not (tmp_path / "home" / "jobs").exists()


@pytest.mark.slow
def test_workers_and_limits_reach_the_jobs_and_a_rerun_gives_the_same_model(tmp_path: Path) -> None:
    frame = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(8)

    job = lw.train(
        frame,
        target="price",
        algorithm="xgboost",
        hyperparameters={"rounds": 30},
        workers=2,
        limits={"log": "3 MiB", "processes": "200"},
        time_limit="4 minutes",
        cpus=0.5,
        memory="1 GiB",
        home=tmp_path / "home",
    )
    again = rerun(job.workspace, job.id)

    workers = job.workspace.compute.list_(kind="training")
    assert [each.labels["rank"] for each in workers] == ["0", "1", "0", "1"]
    assert {each.limits.log_bytes for each in workers} == {3 << 20}
    assert {each.time_limit_s for each in workers} == {240.0}
    assert job.figures["rmse"]["value"] > 0
    assert again.comparison.is_same
    assert [each.rerun_of for each in workers] == ["", "", job.id, ""]
    with pytest.raises(InvalidInputError, match="the first of them holds the model"):
        rerun(job.workspace, workers[1].id)


def test_one_algorithm_is_trained_on_a_table(tmp_path: Path) -> None:
    frame = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(16)

    job = lw.train(
        frame,
        target="price",
        algorithm="linear-learner",
        home=tmp_path / "home",
        cpus=1,
        memory="2 GiB",
    )

    assert job.state == "succeeded"
    assert job.figures
    row = {key: value for key, value in frame.row(0, named=True).items() if key != "price"}
    assert job.predictor().predict([row])
    assert open_bundle(job.model).algorithm == "linear-learner"
    found = lw.job(job.id[-6:], home=tmp_path / "home")
    assert found.model == job.model
    assert found.predictor().predict([row]) == job.predictor().predict([row])
    assert lw.jobs(home=tmp_path / "home")["name"].to_list() == [job.name]
    assert "on validation rows" in job._repr_html_()
    assert lw.status(home=tmp_path / "home")[0].value.round is None


def test_an_unknown_algorithm_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"'xgbost' is no algorithm|xgbost.*Did you mean"):
        lw.train(EXAMPLE / "loop.yaml", algorithm="xgbost", home=tmp_path / "home")

    assert not (tmp_path / "home").exists()


def test_a_log_is_followed_to_its_last_character(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    pieces = ["caf", b"\xc3", b"\xa9\nthe ", b"end\n"]
    states = [JobState.RUNNING] * 4 + [JobState.SUCCEEDED]

    class Compute:
        def get(self, job_id: str) -> Any:
            if pieces:
                piece = pieces.pop(0)
                with path.open("ab") as file:
                    file.write(piece.encode() if isinstance(piece, str) else piece)
            return type("J", (), {"log_path": path, "state": states.pop(0)})

    class Place:
        compute = Compute()

    assert "".join(follow(Place(), "1", pause=lambda _: None)) == "café\nthe end\n"  # type: ignore[arg-type]


def test_curves_show_every_metric_and_leave_out_what_was_not_finite() -> None:
    rows = [("loss", n, 1.0 / (n + 1)) for n in range(2000)] + [
        ("<auc>", 0, None),
        ("<auc>", 1, 0.5),
    ]

    drawn = curve_svg(rows)

    assert drawn.count("<polyline") == 2
    assert "&lt;auc&gt;: 0.5" in drawn
    assert len(drawn) < 20_000
