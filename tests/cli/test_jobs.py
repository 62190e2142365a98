"""The commands on jobs: what one was made of, running it again, removing old files."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.compute import Job, JobSpec, Resources
from loopwright.loop import Workspace
from loopwright.settings import Settings
from loopwright.wiring import open_workspace

SMALL = Resources(cpus=0.1, memory="200 MiB")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(Settings(home=tmp_path / "home"))


def ran(workspace: Workspace, code: str, **fields: Any) -> Job:
    command = (sys.executable, "-I", "-S", "-c", code)
    given: dict[str, Any] = {
        "key": code,
        "name": "houses",
        "kind": "training",
        "resources": SMALL,
    } | fields
    job = workspace.compute.submit(JobSpec(command=command, **given))
    return workspace.compute.wait([job.id])[0]


def jobs(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(workspace.home), "jobs", *arguments])


def test_jobs_without_a_command_lists_them(workspace: Workspace) -> None:
    job = ran(workspace, "pass")

    assert job.id in jobs(workspace).stdout
    assert json.loads(jobs(workspace, "--json").stdout)[0]["state"] == "succeeded"


def test_a_job_is_found_by_its_name_and_several_by_none(workspace: Workspace) -> None:
    job = ran(workspace, "pass", name="only")
    ran(workspace, "print(1)", name="twice")
    ran(workspace, "print(2)", name="twice")

    found = jobs(workspace, "show", "only", "--json")
    several = jobs(workspace, "show", "twice")

    assert json.loads(found.stdout)["id"] == job.id
    assert jobs(workspace, "list").stdout == jobs(workspace).stdout
    assert several.exit_code == 2
    assert "'twice' may be any of 2 jobs" in several.output


def test_a_job_shows_what_it_was_made_of(workspace: Workspace) -> None:
    job = ran(workspace, "print('hello')", env={"TOKEN": "hush-hush", "ROUND": "2"}, seed=7)

    shown = jobs(workspace, "show", job.id)
    facts = json.loads(jobs(workspace, "show", job.id, "--json").stdout)

    assert shown.stdout.startswith("houses · succeeded\n")
    assert "seed                 7" in shown.stdout
    assert "memory_held_by       watchdog" in shown.stdout
    assert "hush-hush" not in shown.stdout + json.dumps(facts)
    assert facts["env"] == {"ROUND": "2", "TOKEN": "(not kept)"}
    assert facts["command"][-1] == "print('hello')"
    assert facts["packages"]["click"]
    assert facts["hardware"]["memory_mib"] > 0


def test_a_script_beyond_its_time_shows_that_and_the_end_of_its_log(workspace: Workspace) -> None:
    left = {"exit_code": 124, "failure": "It was ended at its time limit of 4 s.", "warnings": []}
    write = f"open('out/script.json', 'w').write({json.dumps(left)!r})"
    code = f"print('epoch 1'); {write}; raise SystemExit(124)"
    job = ran(workspace, code, kind="script")

    facts = json.loads(jobs(workspace, "show", job.id, "--json").stdout)

    assert facts["reason"].splitlines() == [
        "It was ended at its time limit of 4 s.",
        "It exited with code 124. The last lines of its log:",
        "  epoch 1",
    ]


def test_the_end_of_an_identifier_is_enough_wherever_a_job_is_typed(workspace: Workspace) -> None:
    job = ran(workspace, "print('hello')")
    short = job.id[-6:]

    def said(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["--home", str(workspace.home), *arguments]).stdout

    assert job.id in said("jobs", "show", short)
    assert said("logs", short) == "hello\n"
    assert said("stop", short) == "houses: succeeded\n"
    assert said("jobs", "rerun", short).startswith("same model: yes")


def test_metrics_of_a_job_are_shown(workspace: Workspace) -> None:
    line = '{"step": 1, "name": "loss", "value": 0.25}'
    job = ran(workspace, f"open('out/metrics.jsonl', 'w').write({line!r} + chr(10))")

    assert "loss                     0.25" in jobs(workspace, "show", job.id, "--metrics").stdout


def test_a_job_that_is_run_again_says_whether_the_model_is_the_same(workspace: Workspace) -> None:
    job = ran(workspace, "open('out/model', 'w').write('abc')")

    again = jobs(workspace, "rerun", job.id)

    assert again.exit_code == 0
    assert again.stdout == "same model: yes\n  1 files are equal, bit for bit\n"


def test_a_model_that_comes_out_differently_is_no_success(workspace: Workspace) -> None:
    job = ran(workspace, "import os; open('out/model', 'wb').write(os.urandom(50))")

    again = jobs(workspace, "rerun", job.id, "--json")

    found = json.loads(again.stdout)
    assert (again.exit_code, found["same"]) == (3, False)
    assert found["difference"].startswith("model differs from byte")


def test_old_files_are_removed_and_records_stay(workspace: Workspace) -> None:
    job = ran(workspace, "open('out/x', 'w').write('x' * 200_000)", checkpoint=True)
    environment = workspace.home / "environments" / "old"
    environment.mkdir(parents=True)
    os.utime(environment, (0, 0))
    time.sleep(0.01)

    told = json.loads(jobs(workspace, "clean", "--older-than", "0 s", "--dry-run", "--json").stdout)
    assert job.folder.exists()
    done = jobs(workspace, "clean", "--older-than", "0 s")

    assert [each["folder"] for each in told["removed"]] == [str(job.folder), str(environment)]
    assert told["bytes"] >= 200_000
    assert "in 2 folders" in done.stdout
    assert not job.folder.exists()
    assert not environment.exists()
    assert workspace.compute.get(job.id).state.value == "succeeded"
    gone = jobs(workspace, "rerun", job.id)
    assert gone.exit_code == 2
    assert "not there any more" in gone.output


def test_what_something_still_needs_is_not_removed(workspace: Workspace) -> None:
    workspace.metadata.put("round", "busy/000001", {"state": "open"})
    workspace.metadata.put("round", "done/000001", {"state": "live"})
    of_open = ran(workspace, "0", labels={"loop": "busy"})
    of_ended = ran(workspace, "1", labels={"loop": "done"})
    script = ran(workspace, "2", kind="script")
    failed_script = ran(workspace, "raise SystemExit(1)", kind="script")
    command = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)")
    live = workspace.compute.submit(
        JobSpec(key="live", name="n", kind="training", command=command, resources=SMALL)
    )

    jobs(workspace, "clean", "--older-than", "0 s")

    kept = [job.folder.exists() for job in (of_open, of_ended, script, failed_script, live)]
    assert kept == [True, False, True, False, True]
    workspace.compute.stop(live.id, grace_s=0)


def test_the_oldest_files_go_first_down_to_a_size(workspace: Workspace) -> None:
    first = ran(workspace, "open('out/x', 'w').write('x' * 3_000_000)")
    second = ran(workspace, "open('out/y', 'w').write('x' * 3_000_000)")

    jobs(workspace, "clean", "--keep", "4 MiB")

    assert (first.folder.exists(), second.folder.exists()) == (False, True)
