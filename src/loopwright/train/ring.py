"""The ring of workers that LightGBM is to train in, while one is open in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from loopwright.train.meeting import Peers

_MINUTES_TO_CONNECT = 5
# as LightGBM writes them of a training without a ring
_WITHOUT_RING = {"machines": "", "local_listen_port": "12400"}
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


def without_addresses(text: str) -> str:
    """Return the text of a model of LightGBM without where its workers were.

    The ports differ from one training to the next, and the model must not; nor is it a model's to
    tell the addresses of a network.
    """
    for name, value in _WITHOUT_RING.items():
        text = re.sub(rf"^\[{name}: .*\]$", f"[{name}: {value}]", text, flags=re.MULTILINE)
    return text
