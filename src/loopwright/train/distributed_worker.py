"""One of several processes that train one model: `python -m loopwright.train.distributed_worker`.

It is started with a rank, a number of workers, a secret and, but for the first, the address of the
first one's meeting. Then it does what the worker of a single process does, on its part of the rows,
while the library's own collective is open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.train.job import SPEC_FILE, TrainingSpec
from loopwright.train.meeting import Meeting, Peers, free_port, join_meeting
from loopwright.train.ring import lightgbm_ring
from loopwright.train.training_data import TrainingData, TrainingPart

RANK = "LOOPWRIGHT_RANK"
WORKERS = "LOOPWRIGHT_WORKERS"
SECRET = "LOOPWRIGHT_MEETING_SECRET"  # noqa: S105 the name of a variable
MEETING = "LOOPWRIGHT_MEETING"
ANNOUNCEMENT = "loopwright: the workers meet at "
# the address of a node in its cluster's network, told by what runs the job there
_HOST = "LOOPWRIGHT_NODE_IP"
_LOOPBACK = "127.0.0.1"
_COLLECTIVE_TIMEOUT_S = 300


def main() -> int:
    """Train as one of several; return the exit code."""
    from loopwright.train.worker import do_training_job

    try:
        spec = msgspec.json.decode(Path(SPEC_FILE).read_bytes(), type=TrainingSpec)
        rank, workers = int(os.environ[RANK]), int(os.environ[WORKERS])
        with _collective(spec.algorithm, rank=rank, workers=workers):
            do_training_job(Path.cwd(), share=lambda data: shared(data, rank=rank, workers=workers))
    except LoopwrightError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def shared(data: TrainingData, *, rank: int, workers: int) -> TrainingData:
    """Return the data with every n-th training row, from the rank's own on; all validation rows.

    Every n-th and not a block, so that rows in an order, of time say, are spread evenly.
    """
    part = data.train
    if len(part) < workers:
        raise InvalidInputError(
            f"{len(part)} training rows cannot be shared by {workers} workers.",
            hint="Use fewer workers.",
            field="workers",
            value=workers,
        )
    own = TrainingPart(
        X=part.X[rank::workers].copy(),
        y=part.y[rank::workers].copy(),
        weight=None if part.weight is None else part.weight[rank::workers].copy(),
    )
    return replace(data, train=own)


@contextmanager
def _collective(algorithm: str, *, rank: int, workers: int) -> Iterator[None]:
    host = os.environ.get(_HOST, _LOOPBACK)
    if algorithm == "xgboost":
        with _xgboost_collective(host, rank=rank, workers=workers):
            yield
        return
    peers = _met(host, rank=rank, workers=workers, extra={})
    with lightgbm_ring(peers):
        yield


@contextmanager
def _xgboost_collective(host: str, *, rank: int, workers: int) -> Iterator[None]:
    import xgboost
    from xgboost.tracker import RabitTracker

    tracker: Any = None
    extra: dict[str, str | int] = {}
    if rank == 0:
        # by task, so that ranks do not depend on who comes first
        tracker = RabitTracker(
            n_workers=workers, host_ip=host, sortby="task", timeout=_COLLECTIVE_TIMEOUT_S
        )
        tracker.start()
        extra = dict(tracker.worker_args())
    peers = _met(host, rank=rank, workers=workers, extra=extra)
    arguments: Mapping[str, Any] = {
        **peers.extra,
        "dmlc_task_id": f"{rank:06d}",
        "dmlc_timeout": _COLLECTIVE_TIMEOUT_S,
    }
    with xgboost.collective.CommunicatorContext(**arguments):
        yield
    if tracker is not None:
        tracker.wait_for(_COLLECTIVE_TIMEOUT_S)


def _met(host: str, *, rank: int, workers: int, extra: dict[str, str | int]) -> Peers:
    secret = os.environ[SECRET]
    timeout_s = float(os.environ.get("LOOPWRIGHT_MEETING_TIMEOUT_S", "600"))
    own = f"{host}:{free_port(host)}"
    if rank:
        return join_meeting(os.environ[MEETING], own, rank=rank, secret=secret, timeout_s=timeout_s)
    meeting = Meeting(host, secret=secret)
    print(f"{ANNOUNCEMENT}{meeting.address}", flush=True)
    others = meeting.gather(own, n_workers=workers, timeout_s=timeout_s)
    return meeting.tell(others, extra)


if __name__ == "__main__":
    sys.exit(main())
