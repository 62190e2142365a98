"""Jobs on a real Ray cluster of several nodes keep the promises of a single machine."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from loopwright.compute import JobSpec, JobState, LocalCompute, Resources, retry
from loopwright.compute.ray_cluster import RayCluster, RayNode
from loopwright.compute.ray_jobs import RayCompute
from loopwright.compute.ray_start import create_token
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import SqlMetadataStore
from loopwright.testing.background_compute import BackgroundComputeContract
from loopwright.testing.compute import (
    SLEEP,
    await_,
    is_alive,
    printed,
    python,
    run,
)
from loopwright.testing.ray_cluster import StartedRayCluster

pytest.importorskip("ray", reason="needs the extra `ray`")
psutil = pytest.importorskip("psutil")

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


def opened(home: Path, address: str, token_file: Path) -> tuple[RayCompute, SqlMetadataStore]:
    """Return the compute of a home, as any process may open it."""
    clock = SystemClock()
    metadata = SqlMetadataStore(f"sqlite:///{home}/store.db", clock)
    compute = RayCompute(
        metadata,
        home / "a home" / "jobs",
        clock,
        cluster=RayCluster(address, token_file),
        location=home / "a home" / "artifacts",
        services=LocalCompute(metadata, home / "a home" / "jobs", clock),
    )
    return compute, metadata


def opening_of(cluster: StartedRayCluster, home: Path) -> str:
    """Return code that opens the compute of a home in another process."""
    return f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ray_jobs import opened
address, token_file = {cluster.address!r}, Path({str(cluster.token_file)!r})
compute, metadata = opened(Path({str(home)!r}), address, token_file)
"""


@pytest.fixture
def compute(cluster: StartedRayCluster, tmp_path: Path) -> Iterator[RayCompute]:
    compute, metadata = opened(tmp_path, cluster.address, cluster.token_file)
    with closing(metadata):
        yield compute


class TestRayCompute(BackgroundComputeContract):
    @pytest.fixture
    def opening(self, cluster: StartedRayCluster, tmp_path: Path) -> str:
        return opening_of(cluster, tmp_path)

    # a job comes to run after seconds, not at once; below are the same promises without that haste
    test_an_interrupted_wait_leaves_the_job_running = None
    test_a_service_starts_beside_a_full_machine = None
    test_a_job_outlives_its_submitter_and_is_found_again = None
    # a job that comes later may start meanwhile on a node that is too small for the large one
    test_a_large_job_is_not_starved_by_small_ones = None
    # a job changes copies of its files on the node, so it can always be run again
    test_what_was_changed_or_not_kept_is_not_run_again = None
    # what is waited for is told by nodes
    test_a_job_that_waits_says_for_what_and_who_has_it = None
    # the supervising process is the same one, and three of these load the machine for a minute
    test_a_job_whose_processes_multiply_is_ended = None
    test_a_job_that_starts_too_many_processes_is_ended = None
    test_a_log_that_grows_too_long_is_cut_and_the_job_goes_on = None


def test_a_client_without_the_token_is_refused(cluster: StartedRayCluster, tmp_path: Path) -> None:
    other = tmp_path / "token"
    create_token(other)

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{cluster.address}/api/jobs/")  # noqa: S310 our own address
    with pytest.raises(BackendError, match="refuses the token") as caught:
        RayCluster(cluster.address, other).check_door()

    assert other.read_text() not in str(caught.value)


def test_nothing_of_the_cluster_listens_beyond_this_machine(cluster: StartedRayCluster) -> None:
    listening = set()
    for process in cluster.processes():
        with suppress(psutil.Error):
            connections = process.net_connections(kind="tcp")
            listening |= {c.laddr.ip for c in connections if c.status == "LISTEN"}

    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert listening


def test_no_token_is_left_in_the_home_of_the_user(
    cluster: StartedRayCluster, compute: RayCompute
) -> None:
    job = run(compute, python("import os; print([n for n in os.environ if 'RAY' in n])"))

    assert compute.log(job.id) == "[]\n"
    assert [path for path in (cluster.folder / "home").rglob("*") if "token" in path.name] == []
    token = cluster.token_file.read_bytes()
    logs = [path for path in (cluster.folder / "ray").rglob("*") if path.is_file()]
    assert logs
    assert [path for path in logs if token in path.read_bytes()] == []


def test_what_no_single_node_has_is_refused_though_all_together_do(compute: RayCompute) -> None:
    with pytest.raises(InvalidInputError, match="asks for 5 CPUs; the largest node") as caught:
        compute.submit(python("", resources=Resources(cpus=5)))

    assert (caught.value.facts["value"], caught.value.facts["available"]) == (5, 4)
    assert compute.list_() == []


def test_the_log_of_a_job_that_runs_can_be_read(compute: RayCompute) -> None:
    code = "import time\nfor n in range(3): print(n, flush=True); time.sleep(1)\ntime.sleep(60)"
    job = compute.submit(python(code))

    printed(compute, job)
    first = compute.log(job.id)
    printed(compute, job, 3)

    assert first.startswith("0\n")
    assert compute.get(job.id).state is JobState.RUNNING
    assert compute.stop(job.id, grace_s=0).state is JobState.STOPPED
    assert compute.log(job.id) == "0\n1\n2\n"


def test_a_service_runs_here_and_is_found_among_the_others(compute: RayCompute) -> None:
    service = compute.submit(python(SLEEP, key="s", counted=False))

    assert service.state is JobState.RUNNING
    assert [job.id for job in compute.list_()] == [service.id]
    assert compute.find("s") == compute.get(service.id)
    assert compute.stop(service.id, grace_s=0).state is JobState.STOPPED


def test_a_job_outlives_its_submitter(
    compute: RayCompute, cluster: StartedRayCluster, tmp_path: Path
) -> None:
    script = f"""{opening_of(cluster, tmp_path)}
from loopwright.testing.compute import python
code = "import time; print('one', flush=True); time.sleep(5); print('two'); raise SystemExit(5)"
job = compute.submit(python(code))
print(job.id, flush=True)
compute.wait([job.id])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as submitter:
        assert submitter.stdout is not None
        job_id = submitter.stdout.readline().decode().strip()
        await_(lambda: compute.get(job_id).state is JobState.RUNNING, 120)

        submitter.kill()

    (job,) = compute.wait([job_id])
    assert (job.state, job.exit_code) == (JobState.FAILED, 5)
    assert compute.log(job_id) == "one\ntwo\n"


def test_a_job_that_ray_keeps_waiting_is_ended_for_good(
    compute: RayCompute, cluster: StartedRayCluster
) -> None:
    client = cluster.client()
    # someone else, who takes the whole node without our knowing
    client.submit("someone-else", "sleep 300", node_id=_largest(client).id, cpus=4)
    job = compute.submit(python("open('out/ran', 'x')", resources=Resources(cpus=4)))
    ray_id = f"loopwright-{job.id}-1"
    await_(lambda: (said := client.find(ray_id)) is not None and said.status == "PENDING", 60)

    stopped = compute.stop(job.id)

    assert stopped.state is JobState.STOPPED
    await_(lambda: (said := client.find(ray_id)) is None or said.has_ended, 120)
    client.stop("someone-else")
    await_(lambda: (said := client.find("someone-else")) is not None and said.has_ended, 60)
    assert not (stopped.out / "ran").exists()


def _largest(client: RayCluster) -> RayNode:
    return max(client.nodes(), key=lambda node: node.cpus)


# a job that writes where it runs, beside its results, as long as it lives
_WRITER = """
import os, sys, time
trace = sys.argv[1]
for n in range(int(sys.argv[2])):
    with open(trace, 'a') as file: file.write(f'{os.getpid()} {time.time()}\\n')
    time.sleep(0.1)
open('out/result', 'w').write(f'{n}')
"""


def _writer(trace: Path, n: int, **fields: object) -> JobSpec:
    return JobSpec(
        key="writer",
        name="a writer",
        kind="training",
        command=(sys.executable, "-I", "-c", _WRITER, str(trace), str(n)),
        **fields,  # type: ignore[arg-type]
    )


def test_a_job_whose_node_is_killed_runs_again_elsewhere_and_no_orphan_goes_on(
    compute: RayCompute,
    cluster: StartedRayCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.1)
    node = cluster.join(cpus=3, memory_gib=1)
    # the smallest node on which it fits is the new one
    resources = Resources(cpus=3, memory="1 GiB")
    job = compute.submit(_writer(tmp_path / "trace", 150, resources=resources, retries=1))
    await_(lambda: compute.get(job.id).state is JobState.RUNNING, 120)
    await_((tmp_path / "trace").exists, 60)
    orphan = int((tmp_path / "trace").read_text().split()[0])

    cluster.kill_node(node)
    killed_at = time.time()
    await_(lambda: not is_alive(orphan), 15)
    (ended,) = compute.wait([job.id])

    assert (ended.state, ended.retried) == (JobState.SUCCEEDED, 1)
    assert (ended.out / "result").read_text() == "149"
    lines = [line.split() for line in (tmp_path / "trace").read_text().splitlines()]
    by_orphan = [float(at) for pid, at in lines if int(pid) == orphan]
    assert max(by_orphan) < killed_at + 5
    assert len(lines) - len(by_orphan) == 150
    assert "Try 2 of 2 follows" in compute.log(job.id)


def test_a_job_whose_node_is_killed_fails_when_it_declares_no_retries(
    compute: RayCompute, cluster: StartedRayCluster
) -> None:
    node = cluster.join(cpus=3, memory_gib=1)
    resources = Resources(cpus=3, memory="1 GiB")
    code = "import time; print('epoch 1', flush=True); time.sleep(600)"
    job = compute.submit(python(code, resources=resources))
    waiting = compute.submit(python(code, key="b", resources=resources))
    printed(compute, job)

    cluster.kill_node(node)
    (ended,) = compute.wait([job.id])

    assert ended.state is JobState.FAILED
    assert "was lost" in ended.reason
    assert "epoch 1" in ended.reason
    assert compute.stop(waiting.id, grace_s=0).state is JobState.STOPPED
