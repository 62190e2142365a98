"""One step of a round: done once, remembered, and not done again while its inputs are the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import LoopwrightError
from loopwright.loop.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step leaves behind.

    Parameters
    ----------
    output
        What later steps need, as JSON types; it is the step's record.
    summary
        What happened, in one line for people.
    reason
        Why it was decided so, if something was decided.
    artifacts
        Digests the output speaks of; when one is gone the step is done again.
    algorithm_s
        Seconds of wall time spent inside the algorithms' own training.
    """

    output: dict[str, Any]
    summary: str
    reason: str = ""
    artifacts: tuple[str, ...] = ()
    algorithm_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNews:
    """A change of a step, for whoever shows progress."""

    loop: str
    round: int
    stage: str
    state: str  # started | progress | done | kept | failed | note
    summary: str = ""
    reason: str = ""
    wall_s: float = 0.0


OnNews = Callable[[StepNews], None]


def round_key(loop: str, number: int) -> str:
    """Return the key of a round's record; keys sort by number."""
    return f"{loop}/{number:06d}"


@dataclass(slots=True)
class StepRunner:
    """Runs the steps of one round and keeps their records.

    A step whose record says "done" for the same fingerprint is not run again, in this round after
    an interruption or in a later one: its output is taken from the store.
    """

    workspace: Workspace
    loop: str
    number: int
    on_news: OnNews
    n_done: int = 0
    stages: list[str] = field(default_factory=list)

    def run(self, stage: str, *, inputs: Any, work: Callable[[], StepResult]) -> dict[str, Any]:
        """Return the output of a step that computes something.

        Parameters
        ----------
        stage
            The step's name in this round, such as `train` or `train.2`.
        inputs
            All that decides the output, as JSON types. Steps that read an earlier step's output
            name its digest or its content here.
        work
            Does it; called only when nobody did it before with the same inputs.
        """
        fingerprint = digest_value([self.loop, stage.split(".")[0], inputs])
        self.stages.append(stage)
        known = self._known(stage, fingerprint)
        if known is not None:
            return known
        return self._work(stage, fingerprint, work)

    def reconcile(self, stage: str, *, work: Callable[[], StepResult | None]) -> None:
        """Run a step that compares the world with what is wanted and acts only on a difference.

        `work` returns None when there was nothing to do; then nothing is recorded.
        """
        self.stages.append(stage)
        started_at, clock = self.workspace.clock.now().isoformat(), time.perf_counter()
        try:
            result = work()
        except LoopwrightError as error:
            self._failed(stage, error)
            raise
        if result is not None:
            self._finish(
                stage, "", result, started_at=started_at, wall_s=time.perf_counter() - clock
            )

    def _known(self, stage: str, fingerprint: str) -> dict[str, Any] | None:
        metadata, key = self.workspace.metadata, self._key(stage)
        mine = metadata.find("step", key)
        if mine and mine.body.get("state") == "done" and mine.body["fingerprint"] == fingerprint:
            body = mine.body
        else:
            earlier = metadata.find("result", fingerprint)
            if earlier is None:
                return None
            body = earlier.body
        if not all(self.workspace.artifacts.has(digest) for digest in body["artifacts"]):
            return None
        if mine is None or mine.body.get("fingerprint") != fingerprint:
            kept = {**body, "kept_from": body["round"], "round": self.number, "wall_s": 0.0}
            kept |= {"stage": stage, "algorithm_s": 0.0, "place": len(self.stages)}
            metadata.put("step", key, kept)
            self._tell(stage, "kept", body["summary"])
        output: dict[str, Any] = body["output"]
        return output

    def _work(self, stage: str, fingerprint: str, work: Callable[[], StepResult]) -> dict[str, Any]:
        started_at, clock = self.workspace.clock.now().isoformat(), time.perf_counter()
        running = {
            "state": "running",
            "loop": self.loop,
            "round": self.number,
            "stage": stage,
            "place": len(self.stages),
            "fingerprint": fingerprint,
            "started_at": started_at,
        }
        with self.workspace.metadata.transaction():
            self.workspace.metadata.put("step", self._key(stage), running)
            self._event("step started", {"stage": stage, "round": self.number})
        self._tell(stage, "started")
        try:
            result = work()
        except LoopwrightError as error:
            self._failed(stage, error)
            raise
        self._finish(
            stage, fingerprint, result, started_at=started_at, wall_s=time.perf_counter() - clock
        )
        return result.output

    def _finish(
        self, stage: str, fingerprint: str, result: StepResult, *, started_at: str, wall_s: float
    ) -> None:
        body = {
            "state": "done",
            "loop": self.loop,
            "round": self.number,
            "stage": stage,
            "place": len(self.stages),
            "fingerprint": fingerprint,
            "started_at": started_at,
            "ended_at": self.workspace.clock.now().isoformat(),
            "wall_s": round(wall_s, 4),
            "algorithm_s": round(result.algorithm_s, 4),
            "summary": result.summary,
            "reason": result.reason,
            "artifacts": list(result.artifacts),
            "output": result.output,
        }
        with self.workspace.metadata.transaction():
            self.workspace.metadata.put("step", self._key(stage), body)
            if fingerprint:
                self.workspace.metadata.put("result", fingerprint, body)
            self._event(
                "step done",
                {
                    "stage": stage,
                    "round": self.number,
                    "summary": result.summary,
                    "reason": result.reason,
                },
            )
        self.n_done += 1
        self._tell(stage, "done", result.summary, reason=result.reason, wall_s=wall_s)

    def _failed(self, stage: str, error: LoopwrightError) -> None:
        record = self.workspace.metadata.find("step", self._key(stage))
        body = {**(record.body if record else {"stage": stage, "round": self.number})}
        with self.workspace.metadata.transaction():
            self.workspace.metadata.put(
                "step", self._key(stage), {**body, "state": "failed", "reason": str(error)}
            )
            self._event("step failed", {"stage": stage, "round": self.number, "reason": str(error)})
        self._tell(stage, "failed", str(error))

    def progress(self, stage: str, summary: str) -> None:
        """Show how far a long step is; nothing is recorded."""
        self._tell(stage, "progress", summary)

    def note(self, text: str, *, reason: str = "") -> None:
        """Record a decision that belongs to no single step, and show it."""
        self._event("decision", {"round": self.number, "summary": text, "reason": reason})
        self._tell("", "note", text, reason=reason)

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        self.workspace.metadata.append(f"loop/{self.loop}", kind, body)

    def _key(self, stage: str) -> str:
        return f"{round_key(self.loop, self.number)}/{stage}"

    def _tell(
        self, stage: str, state: str, summary: str = "", *, reason: str = "", wall_s: float = 0.0
    ) -> None:
        self.on_news(
            StepNews(
                loop=self.loop,
                round=self.number,
                stage=stage,
                state=state,
                summary=summary,
                reason=reason,
                wall_s=wall_s,
            )
        )
