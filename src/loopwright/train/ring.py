"""The ring of workers that LightGBM is to train in, while one is open in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from loopwright.train.meeting import Peers

_MINUTES_TO_CONNECT = 5
_peers: ContextVar[Peers | None] = ContextVar("lightgbm_ring", default=None)


@contextmanager
def lightgbm_ring(peers: Peers) -> Iterator[None]:
    """Let LightGBM train together with these workers, for as long as the context lasts."""
    token = _peers.set(peers)
    try:
        yield
    finally:
        _peers.reset(token)


def ring_parameters() -> Mapping[str, Any]:
    """Return the parameters that make LightGBM train in the open ring; none outside of one."""
    peers = _peers.get()
    if peers is None:
        return {}
    return {
        "machines": ",".join(peers.addresses),
        "num_machines": len(peers.addresses),
        "local_listen_port": int(peers.addresses[peers.rank].rpartition(":")[2]),
        "time_out": _MINUTES_TO_CONNECT,
        "tree_learner": "data",
        # every worker holds rows of its own
        "pre_partition": True,
    }
