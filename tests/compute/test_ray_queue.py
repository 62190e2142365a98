"""Runs of jobs on a cluster are given once, taken in once, and given again when they are lost.

Without Ray: a stand-in starts what Ray would start, as a process of this machine. What Ray itself
does is tested in `test_ray_jobs.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopwright.compute import JobState, LocalCompute, Resources, retry
from loopwright.compute.ray_cluster import RayNode, RaySaid
from loopwright.compute.ray_jobs import RayCompute
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError
from loopwright.store import MemoryMetadataStore, MetadataStore
from loopwright.testing.compute import SLEEP, ComputeContract, await_, printed, python, run


class ShellCluster:
    """Runs what Ray would run, as processes of this machine, on nodes that are names only."""

    def __init__(self) -> None:
        self.living = [RayNode(id="a", ip="127.0.0.1", cpus=4, memory_mib=4096)]
        self.runs: dict[str, subprocess.Popen[bytes]] = {}
        self.is_away = False
        self.keeps_waiting = False

    def check_door(self) -> None:
        if self.is_away:
            raise BackendError("The cluster cannot be reached.", retryable=True)

    def nodes(self) -> list[RayNode]:
        self.check_door()
        return self.living

    def submit(self, run_id: str, entrypoint: str, **_: object) -> None:
        self.check_door()
        if run_id not in self.runs and not self.keeps_waiting:
            self.runs[run_id] = subprocess.Popen(
                ["/bin/sh", "-c", entrypoint], start_new_session=True, stderr=subprocess.DEVNULL
            )

    def find(self, run_id: str) -> RaySaid | None:
        self.check_door()
        if run_id not in self.runs:
            return RaySaid(status="PENDING") if self.keeps_waiting else None
        code = self.runs[run_id].poll()
        if code is None:
            return RaySaid(status="RUNNING")
        if code < 0:
            return RaySaid(
                status="FAILED", message="the actor died", error_type="JOB_SUPERVISOR_ACTOR_DIED"
            )
        status = "FAILED" if code else "SUCCEEDED"
        return RaySaid(status=status, message=f"failed with exit code {code}" if code else "")

    def stop(self, run_id: str) -> None:
        if run_id in self.runs:
            self.runs[run_id].terminate()

    def end(self) -> None:
        for process in self.runs.values():
            process.kill()
            process.wait()


@pytest.fixture
def ray() -> Iterator[ShellCluster]:
    cluster = ShellCluster()
    yield cluster
    cluster.end()


@pytest.fixture
def metadata() -> MetadataStore:
    return MemoryMetadataStore(SystemClock())


Open = Callable[[], RayCompute]


@pytest.fixture
def opening(ray: ShellCluster, metadata: MetadataStore, tmp_path: Path) -> Open:
    """Return a function that opens the home's compute, as another process would."""

    def opened() -> RayCompute:
        jobs = tmp_path / "home" / "jobs"
        return RayCompute(
            metadata,
            jobs,
            SystemClock(),
            cluster=ray,  # type: ignore[arg-type]
            location=tmp_path / "home" / "artifacts",
            services=LocalCompute(metadata, jobs, SystemClock()),
        )

    return opened


@pytest.fixture
def compute(opening: Open) -> RayCompute:
    return opening()


@pytest.mark.slow
class TestRayComputeWithoutRay(ComputeContract):
    @pytest.fixture
    def compute(self, opening: Open) -> RayCompute:
        return opening()

    # a job changes copies of its files on the node, so it can always be run again
    test_what_was_changed_or_not_kept_is_not_run_again = None


def test_a_job_runs_to_its_end_and_leaves_nothing_on_the_way(
    compute: RayCompute, tmp_path: Path
) -> None:
    job = run(compute, python("print('hi'); open('out/x', 'w').write('1')", env={"A": "hush"}))

    assert (job.state, job.exit_code, job.host) == (JobState.SUCCEEDED, 0, "127.0.0.1")
    assert (job.out / "x").read_text() == "1"
    assert compute.log(job.id) == "hi\n"
    assert not (tmp_path / "home" / "artifacts" / "runs" / job.id).exists()
    assert not (job.folder / "env.json").exists()


def test_a_process_that_opened_the_home_before_its_first_job_takes_in_its_end(
    opening: Open,
) -> None:
    early, submitter = opening(), opening()

    job = submitter.submit(python("raise SystemExit(5)"))

    assert early.wait([job.id])[0].exit_code == 5


def test_a_run_that_is_killed_with_its_node_is_given_again_and_its_end_is_taken_once(
    compute: RayCompute, ray: ShellCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.01)
    code = (
        f"import os, time\nplace = {str(tmp_path / 'tries')!r}\n"
        "open(place, 'a').write('x')\nprint('try', os.path.getsize(place), flush=True)\n"
        "if os.path.getsize(place) == 1: time.sleep(60)\n"
        "open('out/result', 'w').write('right')"
    )
    job = compute.submit(python(code, retries=1))
    printed(compute, job)

    os.killpg(ray.runs[f"loopwright-{job.id}-1"].pid, signal.SIGKILL)
    (ended,) = compute.wait([job.id])

    assert (ended.state, ended.retried) == (JobState.SUCCEEDED, 1)
    assert (ended.out / "result").read_text() == "right"
    assert [line for line in compute.log(job.id).splitlines() if "try" in line][:1] == ["try 1"]
    assert compute.log(job.id).endswith("try 2\n")


def test_a_job_that_waits_in_ray_is_stopped_and_never_starts(
    compute: RayCompute, ray: ShellCluster
) -> None:
    ray.keeps_waiting = True
    job = compute.submit(python("open('out/ran', 'x')"))
    assert compute.get(job.id).waits_for == "waits for Ray to start it on 127.0.0.1"

    stopped = compute.stop(job.id)
    ray.keeps_waiting = False

    assert (stopped.state, stopped.started_at) == (JobState.STOPPED, None)
    assert run(compute, python("", key="other")).state is JobState.SUCCEEDED
    assert compute.get(job.id) == stopped


def test_a_job_that_no_node_can_take_any_more_says_so(
    compute: RayCompute, ray: ShellCluster
) -> None:
    first = compute.submit(python(SLEEP, key="a", resources=Resources(cpus=4)))
    second = compute.submit(python("", key="b", resources=Resources(cpus=4)))
    assert "4 CPUs and 2,048 MiB of memory on one node" in second.waits_for

    ray.living = [RayNode(id="b", ip="127.0.0.2", cpus=2, memory_mib=4096)]
    await_(lambda: "large enough" in compute.get(second.id).waits_for, 10)

    assert compute.get(second.id).waits_for.endswith("the largest node of the cluster has 2 CPUs")
    for job in (second, first):
        assert compute.stop(job.id, grace_s=0).state is JobState.STOPPED


def test_records_can_be_read_while_the_cluster_is_away(
    compute: RayCompute, ray: ShellCluster
) -> None:
    job = run(compute, python("print('hi')"))
    ray.is_away = True

    assert compute.list_() == [job]
    assert compute.find("work") == compute.get(job.id) == job
    assert compute.log(job.id) == "hi\n"
    with pytest.raises(BackendError, match="cannot be reached"):
        compute.submit(python("", key="other"))
    assert compute.list_() == [job]


def test_a_node_that_does_not_see_the_exchange_is_named_with_the_remedy(
    compute: RayCompute, ray: ShellCluster, tmp_path: Path
) -> None:
    ray.keeps_waiting = True
    job = compute.submit(python(""))
    ray.keeps_waiting = False
    shutil.rmtree(tmp_path / "home" / "artifacts" / "runs" / job.id / "1")

    ray.submit(
        f"loopwright-{job.id}-1",
        f"exec {sys.executable} -m loopwright.compute.ray_node "
        f"{tmp_path / 'home' / 'artifacts'} {job.id} 1",
    )
    (ended,) = compute.wait([job.id])

    assert ended.state is JobState.FAILED
    assert "does not find the job in the folder of the exchange" in ended.reason
    assert "LOOPWRIGHT_RAY_EXCHANGE" in ended.reason


def test_a_node_with_another_version_is_named(
    compute: RayCompute, ray: ShellCluster, tmp_path: Path
) -> None:
    ray.keeps_waiting = True
    job = compute.submit(python("", retries=3))
    ray.keeps_waiting = False
    order = tmp_path / "home" / "artifacts" / "runs" / job.id / "1" / "order.json"
    order.write_text(json.dumps(json.loads(order.read_text()) | {"version": "0.0.9"}))

    ray.submit(
        f"loopwright-{job.id}-1",
        f"exec {sys.executable} -m loopwright.compute.ray_node "
        f"{tmp_path / 'home' / 'artifacts'} {job.id} 1",
    )
    (ended,) = compute.wait([job.id])

    assert (ended.state, ended.retried) == (JobState.FAILED, 0)
    assert "the submitter has 0.0.9" in ended.reason
    assert "Install the same version" in ended.reason


def test_results_that_were_damaged_on_their_way_fail_the_job_and_nothing_else(
    compute: RayCompute, tmp_path: Path
) -> None:
    code = "import time; open('out/x', 'w').write('right'); time.sleep(0.3)"
    job = compute.submit(python(code))
    results = tmp_path / "home" / "artifacts" / "runs" / job.id / "1"
    await_((results / "exit.json").exists, 30)

    (results / "out" / "x").write_text("wrong")

    (ended,) = compute.wait([job.id])
    assert ended.state is JobState.FAILED
    assert "What it left cannot be taken in. The file" in ended.reason
    assert "was damaged on its way" in ended.reason
    assert not (ended.out / "x").exists()
    assert compute.list_() == [ended]
