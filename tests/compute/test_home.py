"""Several homes on one store: each judges its own jobs, and all can look at those of the others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from loopwright.compute import Capacity, JobState, LocalCompute, Resources, workspace
from loopwright.compute.home import find_home_id, home_id
from loopwright.compute.job import job_body
from loopwright.compute.ledger import JobLedger
from loopwright.compute.supervisor.process import machine_name
from loopwright.compute.supervisor.record import claim
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_value
from loopwright.core.errors import WrongStateError
from loopwright.store import MemoryMetadataStore
from loopwright.testing.compute import SLEEP, await_, python, run

ROOM = Capacity(cpus=1, memory_mib=4096)


@pytest.fixture
def metadata() -> MemoryMetadataStore:
    return MemoryMetadataStore(SystemClock())


def opened(metadata: MemoryMetadataStore, folder: Path) -> LocalCompute:
    return LocalCompute(metadata, folder, SystemClock(), capacity=ROOM)


def test_a_home_keeps_its_identity_and_no_two_have_the_same(tmp_path: Path) -> None:
    assert find_home_id(tmp_path / "a") == ""

    first = home_id(tmp_path / "a")

    assert first == home_id(tmp_path / "a") == find_home_id(tmp_path / "a")
    assert first != home_id(tmp_path / "b")


def test_the_jobs_of_another_home_are_seen_and_not_judged(
    metadata: MemoryMetadataStore, tmp_path: Path
) -> None:
    here, there = opened(metadata, tmp_path / "a"), opened(metadata, tmp_path / "b")
    theirs = there.submit(python(SLEEP, key="same", resources=Resources(cpus=1)))
    await_((theirs.folder / "shim.json").exists)

    ours = here.submit(python(SLEEP, key="same", resources=Resources(cpus=1)))

    # nor do they take our CPUs, nor is their work taken for ours
    assert ours.state is JobState.RUNNING
    assert ours.id != theirs.id
    (theirs.folder / "shim.json").rename(tmp_path / "out of sight")
    assert here.get(theirs.id).state is JobState.RUNNING
    assert {job.id for job in here.list_()} == {ours.id, theirs.id}
    assert here.get(theirs.id).folder == theirs.folder
    (tmp_path / "out of sight").rename(theirs.folder / "shim.json")
    with pytest.raises(WrongStateError, match=f"belongs to another home, {tmp_path / 'b'}"):
        here.stop(theirs.id)
    here.stop(ours.id, grace_s=0)
    there.stop(theirs.id, grace_s=0)


def test_the_end_of_a_job_of_another_home_can_be_waited_for(
    metadata: MemoryMetadataStore, tmp_path: Path
) -> None:
    here, there = opened(metadata, tmp_path / "a"), opened(metadata, tmp_path / "b")
    theirs = run(there, python("print('hello')"))

    assert here.wait([theirs.id]) == [theirs]
    assert here.log(theirs.id) == "hello\n"


def test_a_supervisor_on_another_machine_lives_while_it_gives_signs_of_life(
    tmp_path: Path,
) -> None:
    assert claim(str(tmp_path))
    text = (tmp_path / "shim.json").read_text().replace(machine_name(), "elsewhere")
    (tmp_path / "shim.json").write_text(text)

    assert workspace.is_supervised(tmp_path)
    long_ago = (tmp_path / "shim.json").stat().st_mtime - 3600
    os.utime(tmp_path / "shim.json", (long_ago, long_ago))
    assert not workspace.is_supervised(tmp_path)


def test_jobs_of_before_there_were_several_homes_are_found_and_taken_over(
    metadata: MemoryMetadataStore, tmp_path: Path
) -> None:
    folder = tmp_path / "jobs"
    job = run(opened(metadata, folder), python("", key="old"))
    # as format 1 wrote it: live records under their ids, keys without a home
    live = replace(
        job, id="live", key="live", state=JobState.QUEUED, home="", folder=folder / "live"
    )
    newer = (
        "limits retries retried not_before checkpoint home host log_left_out_bytes rerun_of folder"
    )
    body = {name: value for name, value in job_body(live).items() if name not in newer.split()}
    metadata.create("job-live", "live", {**body, "format": 1, "place": 7})
    metadata.create("job-key", digest_value("live"), {"key": "live", "id": "live"})
    (folder / "live").mkdir()
    (folder / "home.id").unlink()

    LocalCompute(metadata, folder, SystemClock(), capacity=ROOM)

    ledger = JobLedger(metadata, folder, find_home_id(folder))
    assert [found.id for found in ledger.queued()] == ["live"]
    assert ledger.latest("live") is not None
