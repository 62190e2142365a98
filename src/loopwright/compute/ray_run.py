"""A run of a job on a cluster: how it is sent there, what is known of it, how its results come back."""

from __future__ import annotations

import shlex
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loopwright.compute.job import RESERVED_FILES, Job, JobState, job_body
from loopwright.compute.ray_cluster import RayCluster, RayNode
from loopwright.compute.ray_exchange import RayExchange, checked_name
from loopwright.compute.ray_node import ORDER_FORMAT, TRY_AGAIN, own_version
from loopwright.compute.workspace import Exit, read_order
from loopwright.core.errors import BackendError

_GONE = "JOB_SUPERVISOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayRun:
    """One run of a job on the cluster, as our own record has it.

    Parameters
    ----------
    number
        Counts the runs of a job from 1; results of any but the latest are never taken.
    node, ip
        The node that was chosen for it.
    is_placed
        Whether it has a place on the cluster; not before the next try of a job that was lost.
    is_given
        Whether Ray is known to have it; if not, and its submitter died, someone gives it again.
    placed_at
        When the node was chosen, in seconds since 1970 by the submitter's clock.
    n_unstarted
        Runs of this job that never came to start.
    """

    job_id: str
    number: int
    node: str
    ip: str
    is_placed: bool = True
    is_given: bool = False
    placed_at: float = 0.0
    n_unstarted: int = 0

    @property
    def scope(self) -> str:
        """Return where its objects lie in the exchange."""
        return f"{self.job_id}/{self.number}"

    @property
    def ray_id(self) -> str:
        """Return what Ray calls it: the same from every process, so that it is given once."""
        return f"loopwright-{self.job_id}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run whose command has started."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that has ended and said how, with what it sent; `started_at` is None if it never ran."""

    exit: Exit
    started_at: datetime | None
    sent: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A run that the cluster lost.

    `has_started` tells whether the command ran; `is_fault` whether the setting is at fault, so
    that another run would meet the same.
    """

    reason: str
    has_started: bool
    is_fault: bool = False


News = Started | Ended | Lost | None


def send_run(
    exchange: RayExchange,
    cluster: RayCluster,
    job: Job,
    run: RayRun,
    *,
    location: str,
    own_variables: Sequence[str],
    python: str,
) -> None:
    """Put what a run needs into the exchange and give it to Ray; twice does no harm.

    Raises
    ------
    BackendError
        If the exchange or the cluster cannot be reached, or the job's folder was deleted.
    """
    order = read_order(job.folder)
    if order is None:
        raise BackendError(f"The folder {job.folder} of the job is not whole.", job=job.id)
    command, environment = order
    inputs = exchange.put_tree(job.id, "in", job.folder, is_left_out=_is_ours)
    before = None
    if job.checkpoints:
        scope = f"{run.scope}/from"
        before = {
            "scope": scope,
            "files": exchange.put_tree(scope, "checkpoints", job.checkpoints),
        }
    exchange.put(run.scope, "env.json", environment)
    exchange.put(
        run.scope,
        "order.json",
        {
            "format": ORDER_FORMAT,
            "version": own_version(),
            "python": sys.executable,
            "node_ip": run.ip,
            "job": job_body(job),
            "command": command,
            "own_variables": list(own_variables),
            "files": inputs,
            "checkpoints": before,
        },
    )
    cluster.submit(
        run.ray_id,
        entrypoint(location, run, python=python),
        node_id=run.node,
        cpus=job.resources.cpus,
        memory_mib=job.resources.memory_mib,
        n_gpus=job.resources.gpus,
    )


def _is_ours(name: str) -> bool:
    return name in RESERVED_FILES or name.startswith((".", "shim"))


def entrypoint(location: str, run: RayRun, *, python: str) -> str:
    """Return the shell command that Ray runs on the node.

    It becomes the node's program instead of starting it, so that Ray is its parent; where this
    machine's interpreter is not there, it is the node's.
    """
    arguments = shlex.join([location, run.job_id, str(run.number)])
    return f"{_interpreter(python)} -m loopwright.compute.ray_node {arguments}"


def withdrawal(run: RayRun, *, python: str) -> str:
    """Return the shell command, run on the cluster, that takes a run back from Ray."""
    return f"{_interpreter(python)} -m loopwright.compute.ray_withdraw {run.ray_id}"


def _interpreter(python: str) -> str:
    return f'exec "$(command -v {shlex.quote(python)} || command -v python3)" -P'


def news_of(
    exchange: RayExchange, cluster: RayCluster, job: Job, run: RayRun, *, ask_ray: bool
) -> News:
    """Return what has become of a run since its record was written, or None for nothing.

    Parameters
    ----------
    ask_ray
        Whether to ask Ray as well, which tells of runs that can say nothing themselves.
    """
    ended = _ended(exchange, run)
    if ended or not run.is_given:
        return ended
    started_at = _started_at(exchange, run) if job.state is JobState.QUEUED else None
    if started_at:
        return Started(at=started_at)
    if not ask_ray:
        return None
    said = cluster.find(run.ray_id)
    if said is not None and not said.has_ended:
        return None
    # what it left before Ray said that it is gone counts
    ended = _ended(exchange, run)
    if ended:
        return ended
    has_started = _started_at(exchange, run) is not None
    if said is None:
        return Lost(reason="The cluster does not know of it any more.", has_started=has_started)
    if has_started:
        reason = f"The node {run.ip} was lost, or Ray on it: {said.message or said.status}."
        return Lost(reason=reason, has_started=True)
    if said.error_type.startswith(_GONE):
        return Lost(reason=f"It could not start on {run.ip}: {said.message}", has_started=False)
    return Lost(
        reason=_never_started(exchange, run, said.message),
        has_started=False,
        is_fault=f"exit code {TRY_AGAIN}" not in said.message,
    )


def _never_started(exchange: RayExchange, run: RayRun, message: str) -> str:
    if exchange.is_folder and "exit code" not in message:
        return (
            f"The node {run.ip} does not find the job in the folder of the exchange. It must have "
            "the same path on every node; or name an object store in LOOPWRIGHT_RAY_EXCHANGE."
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = " ".join([*lines[:1], *lines[-2:]] if len(lines) > 3 else lines)
    return f"loopwright could not start on the node {run.ip}: {said[:600]}"


def _ended(exchange: RayExchange, run: RayRun) -> Ended | None:
    sent = exchange.find(run.scope, "exit.json")
    if sent is None:
        return None
    record = sent["record"]
    return Ended(
        exit=Exit(
            state=JobState(record["outcome"]),
            exit_code=record["exit_code"],
            reason=record["reason"],
            is_lost=record["is_lost"],
            peak_memory_mib=record["peak_memory_mib"],
            cpu_s=record["cpu_s"],
            log_left_out_bytes=record["log_left_out_bytes"],
            ended_at=datetime.fromtimestamp(record["ended_at"], UTC),
        ),
        started_at=_started_at(exchange, run),
        sent=sent,
    )


def _started_at(exchange: RayExchange, run: RayRun) -> datetime | None:
    started = exchange.find(run.scope, "start.json")
    return datetime.fromtimestamp(float(started["at"]), UTC) if started else None


def collect(exchange: RayExchange, job: Job, run: RayRun, news: Ended | Lost) -> Path | None:
    """Fetch what a run has left beside the job's own folder; return where, or None for nowhere.

    It takes its place there later, in one step, by whoever writes the end down.
    """
    if not job.folder.is_dir():
        return None
    fetched = job.folder / f".fetched-{uuid.uuid4().hex}"
    out = fetched / "out"
    out.mkdir(parents=True)
    try:
        if isinstance(news, Ended):
            for name in news.sent["folders"]:
                (out / checked_name(name)).mkdir(parents=True, exist_ok=True)
            exchange.get_tree(run.scope, "out", news.sent["out"], out)
        keep_checkpoints(exchange, job, run)
        (fetched / "log").write_bytes(log_of(exchange, run)[1])
    except BaseException:
        shutil.rmtree(fetched, ignore_errors=True)
        raise
    return fetched


def put_in_place(job: Job, fetched: Path) -> None:
    """Give what was fetched its place in the job's folder; the log goes on where it was."""
    with job.log_path.open("ab") as file:
        file.write((fetched / "log").read_bytes())
    shutil.rmtree(job.out, ignore_errors=True)
    (fetched / "out").replace(job.out)
    shutil.rmtree(fetched, ignore_errors=True)


def keep_checkpoints(exchange: RayExchange, job: Job, run: RayRun) -> None:
    """Fetch the latest checkpoints of a run for the next one."""
    if job.checkpoints is None:
        return
    left = exchange.find(run.scope, "checkpoints.json")
    if left is None:
        return
    fetched = job.checkpoints.with_name(f"{job.checkpoints.name}.{uuid.uuid4().hex}")
    fetched.mkdir(parents=True, mode=0o700)
    try:
        exchange.get_tree(left["scope"], "checkpoints", left["files"], fetched)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        fetched.replace(job.checkpoints)
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def log_of(exchange: RayExchange, run: RayRun, *, after: int = 0) -> tuple[int, bytes]:
    """Return how many pieces of its log a run has sent after the first ones, and what they hold."""
    pieces = exchange.list_(run.scope, "log")[after:]
    whole = b"".join(exchange.find_bytes(run.scope, name) or b"" for name in pieces)
    return len(pieces), whole


def is_on(run: RayRun, nodes: Sequence[RayNode]) -> bool:
    """Tell whether the node of a run lives."""
    return any(node.id == run.node for node in nodes)


def clean_up(exchange: RayExchange, job_id: str) -> None:
    """Remove what a job has in the exchange; what cannot be removed now is left there."""
    with suppress(BackendError):
        exchange.delete_all(job_id)
