"""Jobs appear on an MLflow server, live and once, whatever the server does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import Job, JobSpec, JobState, LocalCompute, Resources
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.loop import Workspace
from loopwright.tune.entry import model_name
from loopwright.tune.mlflow_client import MlflowClient, mlflow_client
from loopwright.tune.publication import Publication, metric_name
from loopwright.tune.publisher import Pace, follow, held

Train = Callable[..., Job]

LIVE = """
import json, pathlib, time
with open("out/metrics.jsonl", "w", buffering=1) as file:
    for step in range(1, 4):
        file.write(json.dumps({"name": "validation:loss", "step": step, "value": 1 / step}) + "\\n")
    pathlib.Path("half").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    file.write(json.dumps({"name": "validation:loss", "step": 4, "value": 0.25}) + "\\n")
    file.write(json.dumps({"name": "validation:loss", "step": 5, "value": None}) + "\\n")
"""


@pytest.fixture
def publication(workspace: Workspace, small_mlflow: Any) -> Publication:
    return Publication(
        metadata=workspace.metadata,
        compute=workspace.compute,
        folder=workspace.home / "jobs",
        client=MlflowClient(url=small_mlflow.url, timeout_s=5.0),
        now=workspace.clock.now,
        user="ann",
    )


def test_a_job_appears_with_parameters_metrics_tags_and_its_model(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    job = train(labels={"loop": "houses"}, hyperparameters={"alpha": 0.25})

    publication.take_news()
    passed = publication.deliver()

    (run,) = small_mlflow.runs.values()
    assert (passed.n_done, passed.n_open, passed.error) == (1, 0, "")
    assert list(small_mlflow.experiments) == ["houses"]
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == "houses/linear-learner"
    assert run["params"]["alpha"] == "0.25"
    assert run["params"]["algorithm"] == "linear-learner"
    assert run["tags"]["loopwright.job"] == job.id
    assert run["tags"]["loopwright.data.training_rows"].startswith("sha256:")
    assert json.loads(run["tags"]["loopwright.recipe"])
    assert any(name == "quality/rmse" for name, *_ in run["metrics"])
    files = {name.partition("/model/")[2] for name in small_mlflow.artifacts}
    assert files == {"MLmodel", "model.tar.gz", "python_env.yaml", "requirements.txt"}
    assert run["models"][0]["flavors"]["python_function"]["loader_module"]


def test_metrics_arrive_while_the_job_runs(
    publication: Publication, workspace: Workspace, small_mlflow: Any, tmp_path: Path
) -> None:
    compute = LocalCompute(workspace.metadata, tmp_path / "jobs", workspace.clock)
    live = _with(publication, compute)
    job = compute.submit(
        JobSpec(
            key="live",
            name="live",
            kind="script",
            command=(sys.executable, "-I", "-S", "-c", LIVE),
            resources=Resources(cpus=0.1, memory="200 MiB"),
            time_limit_s=60,
        )
    )
    while not (job.folder / "half").exists() and not compute.get(job.id).state.has_ended:
        pass

    live.take_news()
    first = live.deliver()
    before = small_mlflow.curve("validation/loss")
    (run,) = small_mlflow.runs.values()
    status = run["info"]["status"]
    (job.folder / "go").touch()
    compute.wait([job.id])
    second = live.deliver()

    assert (first.n_open, status) == (1, "RUNNING")
    assert before == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert (second.n_done, run["info"]["status"]) == (1, "FINISHED")
    # a value that was not finite cannot be told
    assert small_mlflow.curve("validation/loss") == [*before, (4, 0.25)]


def _with(publication: Publication, compute: Any) -> Publication:
    return Publication(
        metadata=publication.metadata,
        compute=compute,
        folder=publication.folder,
        client=publication.client,
        now=publication.now,
    )


def test_a_second_pass_does_nothing(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train()
    publication.take_news()
    publication.deliver()
    n_calls = len(small_mlflow.calls)

    publication.take_news()
    passed = publication.deliver()

    assert (passed.n_done, passed.n_open, len(small_mlflow.calls)) == (0, 0, n_calls)


@pytest.mark.parametrize(
    "lost",
    [
        "experiments/create",
        "runs/create",
        "runs/log-batch",
        "runs/log-model",
        "runs/update",
    ],
)
def test_an_answer_that_is_lost_doubles_nothing(
    publication: Publication, train: Train, small_mlflow: Any, lost: str
) -> None:
    # whatever was done and not confirmed is done again by the next pass
    train()
    left = {lost: 1}
    small_mlflow.lose = lambda what: left.pop(what, 0) > 0
    publication.take_news()
    first = publication.deliver()
    small_mlflow.lose = lambda _: False

    second = publication.deliver()

    (run,) = small_mlflow.runs.values()
    assert (first.n_done, first.n_open, bool(first.error)) == (0, 1, True)
    assert (second.n_done, second.n_open) == (1, 0)
    assert run["info"]["status"] == "FINISHED"
    assert len(run["metrics"]) == len({(name, step) for name, step, *_ in run["metrics"]})


def test_a_pass_that_was_killed_at_any_call_is_taken_up(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train()
    publication.take_news()

    class Killed(BaseException):
        pass

    for n in range(1, 60):
        small_mlflow.calls.clear()
        client = _KilledAfter(publication.client, n, Killed)
        try:
            Publication(
                metadata=publication.metadata,
                compute=publication.compute,
                folder=publication.folder,
                client=client,
                now=publication.now,  # type: ignore[arg-type]
            ).deliver()
        except Killed:
            continue
        break

    (run,) = small_mlflow.runs.values()
    assert n > 5
    assert run["info"]["status"] == "FINISHED"
    assert publication.take_news() == 0


class _KilledAfter:
    """A client whose process is killed right after so many calls."""

    def __init__(self, client: MlflowClient, n: int, error: type[BaseException]) -> None:
        self._client, self._left, self._error = client, n, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            answer = found(*arguments, **named)
            self._left -= 1
            if self._left <= 0:
                raise self._error
            return answer

        return call


def test_a_server_that_is_away_keeps_the_job_waiting(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train()
    small_mlflow.refuse = lambda _: 503
    publication.take_news()

    away = publication.deliver()
    small_mlflow.refuse = lambda _: None
    back = publication.deliver()

    assert (away.n_done, away.n_open) == (0, 1)
    assert "503" in away.error
    assert back.n_done == 1


def test_what_the_server_refuses_does_not_hold_up_the_others(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    first = train("bad/job")
    train("good/job")
    taken: list[str] = []

    def refuse(what: str) -> int | None:
        taken.append(what)
        return 400 if what == "runs/create" and taken.count(what) == 1 else None

    small_mlflow.refuse = refuse
    publication.take_news()
    passed = publication.deliver()

    assert list(passed.refused) == [first.id]
    assert (passed.n_done, passed.n_open) == (1, 0)
    states = {each["job"]: each["state"] for each in publication.states()}
    assert sorted(states.values()) == ["done", "refused"]


def test_a_model_that_cannot_be_stored_leaves_the_figures(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train()
    small_mlflow.refuse = lambda what: 403 if "artifacts" in what else None
    publication.take_news()

    passed = publication.deliver()

    (run,) = small_mlflow.runs.values()
    assert (passed.n_done, run["info"]["status"]) == (1, "FINISHED")
    assert "403" in run["tags"]["loopwright.model"]


def test_a_failed_job_is_a_failed_run(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train(code="raise SystemExit('no luck')", hyperparameters={"alpha": 0.5})
    publication.take_news()

    publication.deliver()

    (run,) = small_mlflow.runs.values()
    assert (run["info"]["status"], run["params"]["alpha"]) == ("FAILED", "0.5")
    assert small_mlflow.artifacts == {}


def test_endpoints_and_jobs_of_other_homes_are_not_published(
    publication: Publication, train: Train, small_mlflow: Any, tmp_path: Path
) -> None:
    train("endpoint", kind="endpoint")
    train()
    elsewhere = Publication(
        metadata=publication.metadata,
        compute=publication.compute,
        folder=tmp_path / "other",
        client=publication.client,
        now=publication.now,
    )
    elsewhere.take_news()

    assert elsewhere.deliver().n_open == 0
    assert small_mlflow.runs == {}
    publication.take_news()
    publication.deliver()
    assert len(small_mlflow.runs) == 1


def test_another_server_gets_all_jobs_as_well(
    publication: Publication, train: Train, small_mlflow: Any
) -> None:
    train()
    publication.take_news()
    publication.deliver()
    other = MlflowClient(url=small_mlflow.url.replace("127.0.0.1", "localhost"))
    second = Publication(
        metadata=publication.metadata,
        compute=publication.compute,
        folder=publication.folder,
        client=other,
        now=publication.now,
    )

    assert second.take_news() == 1


def test_following_ends_when_all_is_delivered(
    publication: Publication, train: Train, small_mlflow: Any, tmp_path: Path
) -> None:
    train()
    seconds = iter(range(10_000))
    small_mlflow.refuse = lambda _: 503 if len(small_mlflow.calls) < 3 else None
    pauses: list[float] = []

    ended = follow(
        publication,
        tmp_path,
        pace=Pace(linger_s=5),
        pause=pauses.append,
        clock=lambda: float(next(seconds)),
    )

    assert ended
    # longer and longer for a server that is away
    assert pauses[:2] == [2.0, 4.0]
    assert [each["state"] for each in publication.states()] == ["done"]


def test_following_gives_up_on_a_server_that_stays_away(
    publication: Publication, train: Train, small_mlflow: Any, tmp_path: Path
) -> None:
    train()
    seconds = iter(range(0, 10_000, 10))
    small_mlflow.refuse = lambda _: 503

    follow(
        publication,
        tmp_path,
        pace=Pace(patience_s=30),
        pause=lambda _: None,
        clock=lambda: float(next(seconds)),
    )

    assert publication.take_news() == 1


def test_one_process_publishes_for_a_home(publication: Publication, tmp_path: Path) -> None:
    with held(tmp_path) as is_mine:
        assert is_mine
        with held(tmp_path, is_shared=True) as is_free:
            assert not is_free
        assert follow(publication, tmp_path) is False


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("validation:rmse", "validation/rmse"),
        ("a/../b", "a/b"),
        ("loss [€]", "loss ___"),
        ("", "metric"),
        ("..", "metric"),
    ],
)
def test_names_become_names_that_mlflow_takes(name: str, shown: str) -> None:
    assert metric_name(name) == shown


def test_a_models_name_is_a_name() -> None:
    assert model_name("Houses/XGBoost ü") == "houses-xgboost"
    assert model_name("///") == "model"


@pytest.mark.parametrize(
    "uri", ["sqlite:///m.db", "mlruns", "databricks", "ftp://x", "http://[", ""]
)
def test_only_web_addresses_are_spoken(uri: str) -> None:
    with pytest.raises(InvalidInputError, match="only http"):
        mlflow_client(uri, {})


@pytest.mark.parametrize(
    ("uri", "environment", "header"),
    [
        ("http://ann:s%40cret@h:1/p/", {}, "Basic YW5uOnNAY3JldA=="),
        ("https://h", {"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        (
            "https://h",
            {"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "b"},
            "Basic YTpi",
        ),
        ("https://h", {}, ""),
    ],
)
def test_credentials_go_into_a_header_and_nowhere_else(
    uri: str, environment: dict[str, str], header: str
) -> None:
    client = mlflow_client(uri, environment)

    assert client.authorization == header
    assert "@" not in client.url
    assert not header or header not in repr(client)


def test_credentials_are_sent(small_mlflow: Any) -> None:
    client = mlflow_client(small_mlflow.url, {"MLFLOW_TRACKING_TOKEN": "hush"})

    client.experiment_id("houses")

    assert small_mlflow.headers[0]["Authorization"] == "Bearer hush"


def test_a_redirect_is_not_followed(small_mlflow: Any) -> None:
    small_mlflow.refuse = lambda _: 307

    with pytest.raises(BackendError, match="307"):
        mlflow_client(small_mlflow.url, {}).experiment_id("houses")

    assert len(small_mlflow.calls) == 1


def test_a_server_that_is_not_there_can_be_tried_again() -> None:
    with pytest.raises(BackendError) as caught:
        MlflowClient(url="http://127.0.0.1:9", timeout_s=2).experiment_id("houses")

    assert caught.value.retryable


def test_a_run_that_someone_else_made_is_found(small_mlflow: Any) -> None:
    client = MlflowClient(url=small_mlflow.url)
    made = client.create_run("1", name="a", start_ms=0, tags={"loopwright.job": "j"})

    assert client.find_run("1", tag="loopwright.job", value="j") == made
    assert client.find_run("1", tag="loopwright.job", value="other") is None


def test_a_store_that_is_no_artifact_server_is_told(small_mlflow: Any) -> None:
    client = MlflowClient(url=small_mlflow.url)
    run = client.create_run("1", name="a", start_ms=0, tags={})
    local = type(run)(run_id="r", experiment_id="1", artifact_uri="/srv/mlruns/1/r/artifacts")

    with pytest.raises(BackendError, match="takes none"):
        client.put_artifact(local, "model/MLmodel", b"")


def test_the_ends_of_jobs_have_a_word_in_mlflow() -> None:
    from loopwright.tune.publication import _ENDS

    assert set(_ENDS) == {state for state in JobState if state.has_ended}
