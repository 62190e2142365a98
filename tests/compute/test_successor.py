"""Jobs that wait start when there is room, whether or not anybody looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopwright.compute.successor import Successor
from loopwright.core.clock import SystemClock
from loopwright.settings import Settings
from loopwright.testing.compute import await_
from loopwright.wiring import open_metadata, open_workspace

_SUBMIT = """
import os, sys
from loopwright.compute import Resources
from loopwright.settings import read_settings
from loopwright.testing.compute import python
from loopwright.wiring import open_workspace

compute = open_workspace(read_settings(os.environ)).compute
for key, code in zip("ab", sys.argv[1:]):
    job = compute.submit(python(code, key=key, resources=Resources(cpus=1), retries=1))
    print(job.folder, flush=True)
"""

# a job that lasts until the test has seen its submitter gone
_UNTIL_GONE = """
import os, time
while not os.path.exists("gone"):
    time.sleep(0.02)
"""


def _submitted(home: Path, *codes: str) -> list[Path]:
    """Submit jobs to a home with room for one, from a process that is gone on return."""
    told = {**os.environ, "LOOPWRIGHT_HOME": str(home), "LOOPWRIGHT_CPUS": "1"}
    told.pop("LOOPWRIGHT_JOB_ID", None)
    command = [sys.executable, "-c", _SUBMIT, *codes]
    ran = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    return [Path(line) for line in ran.stdout.split()]


def test_a_queued_job_starts_when_its_submitter_is_gone(tmp_path: Path) -> None:
    first, second = _submitted(tmp_path, _UNTIL_GONE, "print('went on')")
    assert not (second / "shim.json").exists()
    (first / "gone").touch()

    await_((second / "exit.json").exists)

    assert (second / "log.txt").read_text() == "went on\n"
    await_(lambda: not list((tmp_path / "jobs" / "queue").iterdir()))


def test_a_lost_job_is_tried_again_when_its_submitter_is_gone(tmp_path: Path) -> None:
    lost = f"{_UNTIL_GONE}os.kill(os.getpid(), 9)"

    (folder,) = _submitted(tmp_path, lost)
    (folder / "gone").touch()

    await_((folder / "shim-1.json").exists)
    metadata = open_metadata(Settings(home=tmp_path), SystemClock())
    kinds = [event.kind for event in metadata.list_events("jobs")]
    assert kinds[:4] == ["queued", "running", "queued", "running"]
    # the next try finds the folder as it was at first
    (folder / "gone").touch()
    await_((folder / "exit.json").exists)


def test_the_password_of_the_database_is_on_no_command_line_and_in_no_repr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOPWRIGHT_JOB_ID", raising=False)
    successor = Successor(
        command=("/bin/true",), folder=tmp_path, environment={"LOOPWRIGHT_DATABASE_URL": "hush"}
    )

    assert b"hush" in successor.order()
    assert "hush" not in repr(successor)


def test_within_a_job_no_successor_is_named_whose_jobs_would_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWRIGHT_JOB_ID", "outer")

    assert Successor(command=("/bin/true",), folder=tmp_path, environment={}).order() == b""


def test_a_home_without_jobs_has_no_queue(tmp_path: Path) -> None:
    workspace = open_workspace(Settings(home=tmp_path))

    workspace.compute.list_()

    assert not (tmp_path / "jobs").exists()
