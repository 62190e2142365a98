"""Experiments from the command line and from Python, over jobs that really ran."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import loopwright as lw
from loopwright.cli import main as main
from loopwright.cli.main import cli
from loopwright.compute import Job, JobSpec, Resources
from loopwright.compute.announced import AnnouncedCompute
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.loop import Workspace
from loopwright.settings import Settings, read_settings
from loopwright.wiring import open_workspace

COPY = "import shutil, sys; shutil.copytree(sys.argv[1], 'out', dirs_exist_ok=True)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def opened(home: Path) -> Workspace:
    return open_workspace(Settings(home=home))


@pytest.fixture(scope="module")
def jobs(opened: Workspace, trained_files: Path) -> list[Job]:
    names = ("recipe.json", "train.parquet", "validation.parquet", "training.json")
    submitted = [
        opened.compute.submit(
            JobSpec(
                key=name,
                name=name,
                kind="training",
                seed=7,
                command=(sys.executable, "-I", "-S", "-c", COPY, str(trained_files / "out")),
                files={each: trained_files / each for each in names},
                resources=Resources(cpus=0.1, memory="200 MiB"),
            )
        )
        for name in ("first", "second")
    ]
    return opened.compute.wait([job.id for job in submitted])


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(home), *arguments])


def test_an_experiment_is_begun_filled_and_concluded(home: Path, jobs: list[Job]) -> None:
    begun = run(home, "experiments", "start", "deeper", "--hypothesis", "depth helps")
    run(home, "experiments", "add", "deeper", *(job.id for job in jobs))
    done = run(home, "experiments", "conclude", "deeper", "it does not", "--json")

    assert begun.exit_code == 0
    assert json.loads(done.stdout)["conclusion"] == "it does not"
    shown = run(home, "experiments", "show", "deeper").stdout
    assert shown.startswith("deeper · concluded\n")
    assert "hypothesis  depth helps" in shown
    assert all(job.id in shown for job in jobs)
    listed = json.loads(run(home, "experiments", "list", "--json").stdout)
    assert [each["name"] for each in listed] == ["deeper"]
    by_job = json.loads(run(home, "experiments", "list", "--jobs", "--json").stdout)
    assert {row["experiment"] for row in by_job} == {"deeper"}


def test_jobs_are_compared_in_the_terminal_and_on_a_page(
    home: Path, jobs: list[Job], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"

    found = run(home, "experiments", "compare", *(job.id for job in jobs), "--page", str(page))
    told = json.loads(
        run(home, "experiments", "compare", *(job.id for job in jobs), "--json").stdout
    )

    assert found.exit_code == 0
    assert "rmse" in found.stdout
    assert "What differs, first" in found.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert [row["name"] for row in told["jobs"]] == ["first", "second"]
    assert all(row["latency_us"] > 0 for row in told["jobs"])
    assert told["differences"]["parameters"] == []


def test_the_table_is_sorted_by_any_column(home: Path, jobs: list[Job]) -> None:
    ids = [job.id for job in jobs]

    by_time = run(home, "experiments", "compare", *ids, "--sort", "latency_us")
    odd = run(home, "experiments", "compare", *ids, "--sort", "latency")

    assert by_time.exit_code == 0
    assert odd.exit_code == 2
    assert "latency_us" in odd.stderr


def test_what_does_not_exist_is_answered_with_exit_code_2(home: Path, jobs: list[Job]) -> None:
    found = run(home, "experiments", "compare", "nothing-of-this-name")

    assert found.exit_code == 2
    assert "nothing-of-this-name" in found.stderr


def test_python_lists_compares_and_opens(home: Path, jobs: list[Job]) -> None:
    table = lw.experiments(home=home)
    found = lw.compare([job.id for job in jobs], home=home)
    model = lw.open_model(jobs[0].id, home=home)

    assert table["job"].to_list() == [job.id for job in jobs]
    assert table["metric"].to_list() == ["rmse", "rmse"]
    assert found.frame["job"].to_list() == [entry.job for entry in found.value.entries]
    assert 'sandbox="allow-scripts"' in found._repr_html_()
    assert "2 jobs by rmse" in repr(found)
    assert model.predict([{"area": 100.0, "town": "Aa"}])[0]["prediction"] > 100_000


def test_python_begins_an_experiment_once(home: Path, jobs: list[Job]) -> None:
    first = lw.experiment("by-hand", hypothesis="<b>it</b> helps", home=home)
    first.add(jobs[0].id).conclude("yes")

    again = lw.experiment("by-hand", hypothesis="something else", home=home)

    assert again.value.hypothesis == "<b>it</b> helps"
    assert again.value.jobs == (jobs[0].id,)
    assert "&lt;b&gt;it" in again._repr_html_()


def test_a_model_whose_files_are_gone_is_taken_from_what_a_round_kept(
    opened: Workspace, home: Path, trained_files: Path
) -> None:
    from loopwright.train import model_members

    names = ("recipe.json", "train.parquet", "validation.parquet", "training.json")
    job = opened.compute.submit(
        JobSpec(
            key="kept",
            name="houses/linear-learner",
            kind="training",
            labels={"loop": "houses"},
            command=(sys.executable, "-I", "-S", "-c", COPY, str(trained_files / "out")),
            files={each: trained_files / each for each in names},
            resources=Resources(cpus=0.1, memory="200 MiB"),
        )
    )
    opened.compute.wait([job.id])
    before = lw.open_model(job.id, home=home).predict([{"area": 100.0, "town": "Aa"}])
    shutil.rmtree(job.folder)
    with pytest.raises(WrongStateError, match="not kept any more"):
        lw.open_model(job.id, home=home)

    members = {n: opened.artifacts.put_file(p) for n, p in model_members(trained_files).items()}
    output = {"jobs": [{"job": job.id, "members": members}]}
    opened.metadata.put("step", "houses/000001/train", {"stage": "train", "output": output})

    assert lw.open_model(job.id, home=home).predict([{"area": 100.0, "town": "Aa"}]) == before


def test_a_home_without_a_store_has_no_experiments(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        lw.experiments(home=tmp_path / "none")


def test_jobs_are_brought_to_the_server_that_is_set(
    home: Path, jobs: list[Job], small_mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unset = run(home, "mlflow", "sync")
    monkeypatch.setenv("LOOPWRIGHT_MLFLOW_URI", small_mlflow.url)

    told = run(home, "mlflow", "sync", "--json")
    states = json.loads(run(home, "mlflow", "status", "--json").stdout)

    assert unset.exit_code == 2
    assert "LOOPWRIGHT_MLFLOW_URI" in unset.stderr
    assert told.exit_code == 0
    tagged = {each["tags"]["loopwright.job"] for each in small_mlflow.runs.values()}
    assert {job.id for job in jobs} <= tagged
    assert {each["state"] for each in states} == {"done"}


def test_a_job_becomes_a_folder_for_mlflow(home: Path, jobs: list[Job], tmp_path: Path) -> None:
    written = run(home, "mlflow", "export", jobs[0].id, str(tmp_path / "m"))

    assert written.exit_code == 0
    assert (tmp_path / "m" / "MLmodel").is_file()


def test_jobs_are_announced_where_a_server_is_set(tmp_path: Path) -> None:
    here = Settings(home=tmp_path / "a")
    there = Settings(home=tmp_path / "b", mlflow_uri="http://127.0.0.1:9")

    assert not isinstance(open_workspace(here).compute, AnnouncedCompute)
    assert isinstance(open_workspace(there).compute, AnnouncedCompute)


def test_every_submission_is_told_and_all_else_is_passed_on(
    opened: Workspace, jobs: list[Job]
) -> None:
    told: list[int] = []
    compute = AnnouncedCompute(opened.compute, lambda: told.append(1))

    again = compute.submit(JobSpec(key="first", name="first", kind="training", command=("true",)))

    assert (again.id, told) == (jobs[0].id, [1])
    assert compute.get(again.id) == opened.compute.get(again.id)
    assert compute.find("first") == opened.compute.find("first")
    assert compute.list_() == opened.compute.list_()
    assert compute.origin(again.id) == opened.compute.origin(again.id)
    assert compute.log(again.id) == opened.compute.log(again.id)
    assert compute.wait([again.id]) == [opened.compute.get(again.id)]
    assert compute.stop(again.id) == opened.compute.get(again.id)


@pytest.mark.parametrize(
    ("environment", "uri"),
    [
        ({}, None),
        ({"LOOPWRIGHT_MLFLOW_URI": "http://h:1", "MLFLOW_TRACKING_URI": "http://g"}, "http://h:1"),
        ({"MLFLOW_TRACKING_URI": "https://g"}, "https://g"),
        # for other programs, which write into it themselves
        ({"MLFLOW_TRACKING_URI": "sqlite:///m.db"}, None),
    ],
)
def test_the_server_is_taken_from_the_environment(
    environment: dict[str, str], uri: str | None
) -> None:
    assert read_settings(environment).mlflow_uri == uri


def test_an_address_of_ones_own_that_cannot_be_spoken_to_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'sqlite'"):
        read_settings({"LOOPWRIGHT_MLFLOW_URI": "sqlite:///m.db"})


def test_a_password_in_the_address_is_not_shown() -> None:
    settings = read_settings({"LOOPWRIGHT_MLFLOW_URI": "http://ann:hunter2@h"})

    assert "hunter2" not in repr(settings)


@pytest.mark.timeout(120)
def test_a_job_is_published_by_a_process_that_starts_with_it(
    tmp_path: Path, small_mlflow: Any
) -> None:
    home = tmp_path / "home"
    workspace = open_workspace(Settings(home=home, mlflow_uri=small_mlflow.url))

    job = workspace.compute.submit(
        JobSpec(
            key="a",
            name="a",
            kind="script",
            command=("true",),
            resources=Resources(cpus=0.1, memory="200 MiB"),
        )
    )
    workspace.compute.wait([job.id])
    until = time.monotonic() + 60
    while time.monotonic() < until and "runs/update" not in small_mlflow.calls:
        time.sleep(0.05)

    (run,) = small_mlflow.runs.values()
    assert (run["tags"]["loopwright.job"], run["info"]["status"]) == (job.id, "FINISHED")
    # it would wait for more jobs
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(home).encode() in line.read_bytes():
                os.kill(int(line.parent.name), signal.SIGTERM)
