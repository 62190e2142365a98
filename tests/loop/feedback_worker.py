"""A worker that takes one loop from a finding to a new champion, and back, over the real store.

Run as a program it is killed for real: `feedback_worker.py FOLDER` kills a child at every statement
that writes, lets another one go on, and prints the state that each of them came to.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.clock import FixedClock
from loopwright.deploy import DesiredState, Rollout
from loopwright.deploy.rollout import Model, begun, entered
from loopwright.loop import progress
from loopwright.loop.driving import carry_out
from loopwright.loop.feedback_state import (
    BeginRound,
    Begun,
    Compared,
    Effect,
    Looked,
    LoopState,
    Trained,
)
from loopwright.loop.feedback_store import carried_out, find_state, tell
from loopwright.loop.file import parse_loop_file
from loopwright.loop.round_record import closed
from loopwright.loop.trigger import Seen
from loopwright.loop.workspace import Workspace
from loopwright.store import MetadataStore, SqlMetadataStore

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
LOOP = parse_loop_file(
    b"name: churn\nproblem: {target: churned}\ndata: {source: {kind: file, path: a.csv}}\n"
    b"deploy: {endpoint: churn, rollout: {kind: canary}}\n"
)
NAME = LOOP.name
DRIFT = Seen(verdict="drift", reason="The error grew.", n_labelled=2_000)
WRITES = ("create", "put", "replace", "append", "delete")


class FaultyStore:
    """A store that breaks off before or after its n-th write, over all that was ever written."""

    def __init__(self, store: MetadataStore, at: int, *, after: bool, end: Callable[[], None]):
        self._store, self._at, self._after, self._end = store, at, after, end
        self.n = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in WRITES:
            return found

        def write(*args: Any, **named: Any) -> Any:
            self.n += 1
            if self.n == self._at and not self._after:
                self._end()
            result = found(*args, **named)
            if self.n == self._at and self._after:
                self._end()
            return result

        return write


def workspace_over(store: Any, folder: Path) -> Workspace:
    return Workspace(
        home=folder,
        metadata=store,
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=FixedClock(NOW + timedelta(hours=1)),
        user="ann",
    )


def first_model(store: MetadataStore) -> None:
    """Leave a loop whose first model is live."""
    body = {**record(1), "state": "live", "cause": "first run"}
    tell(store, NAME, Begun(number=1, cause="first run", reason="new"), now=NOW)
    store.put("round", f"{NAME}/000001", {**body, "state": "open"})
    workspace = workspace_over(store, Path())
    with store.transaction():
        store.put("champion", NAME, {"round": 1, "version": "v1", "before": None, "since": None})
        closed(workspace, NAME, body, "live", "It is live.")


def record(number: int) -> dict[str, Any]:
    return {
        "loop": NAME,
        "number": number,
        "state": "open",
        "cause": "drift",
        "reason": "the error grew",
        "conclusion": "",
        "live": None,
        "started_at": NOW.isoformat(),
        "ended_at": None,
        "waiting": {
            "bundle": f"sha256:{number}",
            "version": f"v{number}",
            "algorithm": "lightgbm",
            "predictor": "sha256:p",
            "figures": {},
            "learnt_from": [],
            "conclusion": "It is better.",
        },
    }


def work(workspace: Workspace) -> LoopState:
    """Take the loop to a new champion from wherever it stands, and back to the one before."""
    metadata = workspace.metadata

    def do(effect: Effect) -> None:
        if not isinstance(effect, BeginRound):
            carry_out(workspace, LOOP, effect, lambda _news: None)
        elif metadata.find("round", f"{NAME}/{effect.number:06d}") is None:
            metadata.put("round", f"{NAME}/{effect.number:06d}", record(effect.number))

    while True:
        carried_out(metadata, NAME, do)
        state = find_state(metadata, NAME)
        assert state is not None
        if state.state == "cooldown" and state.own:
            return state
        _move(workspace, state)


def _move(workspace: Workspace, state: LoopState) -> None:
    metadata, now = workspace.metadata, workspace.clock.now()
    if state.round == 1:
        tell(metadata, NAME, Looked(seen=DRIFT), now=now)
        return
    body = metadata.get("round", f"{NAME}/{state.round:06d}").body
    if state.state == "promoted":
        compared = Compared(version="v2", beside="v1", is_worse=True, reason="It errs more")
        tell(metadata, NAME, compared, now=now)
    elif state.state == "retraining":
        tell(metadata, NAME, Trained(number=state.round), now=now)
    elif state.state == "evaluating":
        closed(workspace, NAME, body, "waiting for approval", "It is better.")
    elif state.state == "waiting":
        closed(workspace, NAME, body, "rolling out", "It is better.")
    elif state.state == "shadow":
        progress.closed(workspace, LOOP, body, rollout("baking"))
    else:
        progress.closed(workspace, LOOP, body, rollout("done"))


def rollout(phase: Any) -> Any:
    base = DesiredState(name="churn", bundle="/m/1", version="v1", generation=4)
    first = begun(
        Rollout(kind="canary"),
        loop=NAME,
        round_=2,
        base=base,
        next_=Model(bundle="/m/2", version="v2"),
        now=NOW,
    )
    return entered(first, phase, NOW)


def contents(store: MetadataStore) -> dict[str, Any]:
    """Return all that a run leaves behind, without the seconds a record was written at."""
    kinds = ("feedback", "feedback_effect", "round", "champion")
    records = {
        f"{kind}/{each.key}": each.body for kind in kinds for each in store.list_(kind, limit=1000)
    }
    streams = (f"feedback/{NAME}", f"loop/{NAME}")
    events = {name: [[e.kind, e.body] for e in store.list_events(name)] for name in streams}
    found: dict[str, Any] = json.loads(json.dumps({**records, **events}))
    return found


def _killed(folder: Path, at: int, *, after: bool) -> bool:
    """Work in a child that kills itself at a write; return whether it was killed."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    store = SqlMetadataStore(f"sqlite:///{folder / 'loopwright.db'}", FixedClock(NOW))
    faulty = FaultyStore(store, at, after=after, end=lambda: os.kill(os.getpid(), signal.SIGKILL))
    work(workspace_over(faulty, folder))
    os._exit(0)


def main(folder: Path) -> None:
    start, ends = folder / "start.db", []
    # made in a child: a database is used by the process that opened it
    if not (child := os.fork()):
        store = SqlMetadataStore(f"sqlite:///{start}", FixedClock(NOW))
        first_model(store)
        store.close()
        os._exit(0)
    os.waitpid(child, 0)
    for after in (False, True):
        for at in range(1, 200):
            home = folder / f"{at}-{after}"
            home.mkdir(parents=True)
            shutil.copy(start, home / "loopwright.db")
            was_killed = _killed(home, at, after=after)
            if was_killed:
                _killed(home, 0, after=False)
            child = os.fork()
            if not child:
                store = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", FixedClock(NOW))
                (home / "end.json").write_text(json.dumps(contents(store)))
                os._exit(0)
            os.waitpid(child, 0)
            ends.append({"killed": was_killed, "end": json.loads((home / "end.json").read_text())})
            if not was_killed:
                break
    sys.stdout.write(msgspec.json.encode(ends).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
