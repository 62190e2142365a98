"""The cycle: which round is due, its steps in order, and whether the loop goes round again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import Capacity
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.data import Snapshot
from loopwright.loop.build import Candidate, best_candidate
from loopwright.loop.file import ReadFile
from loopwright.loop.framing import decided, explored, parted_rows, sealed_criteria, stated_problem
from loopwright.loop.preflight import checked_endpoint, checked_over_columns, checked_plans
from loopwright.loop.release import deploy, evaluated, packed, verified
from loopwright.loop.sourcing import Extraction, Sourced, extracted
from loopwright.loop.status import LoopStatus, loop_status
from loopwright.loop.step import OnNews, StepRunner, round_key
from loopwright.loop.trigger import Trigger
from loopwright.loop.watching import OWN_CAUSES, last_report, look, rows_to_learn_from
from loopwright.loop.workspace import Workspace, checked_home, locked_loop
from loopwright.monitor import MonitorReport

EXIT_CODES = {"live": 0, "waiting for approval": 0, "criterion missed": 3, "not ml": 4}
_FINAL = frozenset({"live", "kept champion", "criterion missed", "not ml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    Parameters
    ----------
    state
        `live`, `waiting for approval`, `criterion missed` or `not ml`.
    message
        The result in one or two sentences.
    n_steps
        Steps that did something; 0 means that there was nothing to do.
    wall_s
        Wall time of the whole run in seconds.
    status
        The loop afterwards.
    """

    loop: str
    state: str
    message: str
    n_steps: int
    wall_s: float
    status: LoopStatus

    @property
    def exit_code(self) -> int:
        """0 done, 3 criterion not met, 4 not an ML problem."""
        return EXIT_CODES[self.state]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON types."""
        return {
            "loop": self.loop,
            "state": self.state,
            "message": self.message,
            "n_steps": self.n_steps,
            "wall_s": round(self.wall_s, 3),
            "exit_code": self.exit_code,
            "status": self.status.to_json(),
        }


def run_loop(
    read: ReadFile,
    *,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    capacity: Capacity,
    on_news: OnNews,
    refresh: bool = False,
    overrule: str = "",
) -> Outcome:
    """Take a loop to where it can go now, and go round again if the monitor calls for it.

    An interrupted run goes on after its last finished step. Nothing is written before the file,
    the source, the target, the home folder and the port have been found usable.

    Parameters
    ----------
    read
        The loop file.
    home
        The folder of the store.
    find_workspace
        Opens the store if it exists.
    open_workspace
        Opens the store, making it if needed.
    capacity
        What jobs may use: what asks for more is refused before anything is written.
    on_news
        Told of every step.
    refresh
        Whether to extract the source anew although it need not have changed.
    overrule
        A person's reason to go on although the verdict was that no model is needed; recorded.

    Raises
    ------
    InvalidInputError
        If something given cannot be used; nothing was changed.
    """
    clock = time.perf_counter()
    checked_home(home)
    checked_plans(read, capacity)
    workspace = find_workspace()
    try:
        with extracted(
            read,
            metadata=workspace.metadata if workspace else None,
            artifacts=workspace.artifacts if workspace else None,
            clock=workspace.clock if workspace else SystemClock(),
            refresh=refresh,
            scratch=workspace.scratch_folder() if workspace else None,
        ) as extraction:
            checked_over_columns(read.content, extraction.sourced)
            checked_endpoint(read.content, workspace)
            workspace = workspace or open_workspace()
            with locked_loop(home, read.content.name):
                _kept(workspace, read, extraction)
                cycle = _Cycle(workspace, read, extraction.sourced, on_news, overrule)
                state, message = cycle.turn()
    except BackendError as error:
        if workspace is None:  # nothing was begun: what was given cannot be used
            raise InvalidInputError(error.message, hint=error.hint, **error.facts) from error
        raise
    return Outcome(
        loop=read.content.name,
        state=state,
        message=message,
        n_steps=cycle.n_done,
        wall_s=time.perf_counter() - clock,
        status=loop_status(workspace, read.content.name),
    )


def look_at_loop(read: ReadFile, *, workspace: Workspace, on_news: OnNews) -> MonitorReport:
    """Look at what the endpoint saw since the last look, and start nothing.

    Raises
    ------
    WrongStateError
        If no model of the loop has gone live yet.
    """
    name = read.content.name
    source, champion = (workspace.metadata.find(kind, name) for kind in ("source", "champion"))
    if source is None or champion is None or read.content.deploy is None:
        raise WrongStateError(
            f"No model of the loop {name!r} has gone live behind an endpoint.",
            hint="Run the loop first.",
            kind="loop",
            name=name,
        )
    with locked_loop(workspace.home, name):
        runner = StepRunner(workspace, name, champion.body["round"], on_news)
        sourced = msgspec.convert(source.body, Sourced)
        look(runner, workspace, read.content, sourced, champion.body)
    report = last_report(workspace, name)
    if report is None:
        raise AssertionError("a look leaves a report")
    return report


def _kept(workspace: Workspace, read: ReadFile, extraction: Extraction) -> None:
    """Keep the snapshot and what is known of the loop before its steps begin."""
    loop, metadata = read.content, workspace.metadata
    if extraction.parquet is not None:
        workspace.artifacts.put_file(extraction.parquet)
    metadata.put("source", loop.name, msgspec.to_builtins(extraction.sourced))
    known = {
        "file": str(read.path),
        "question": loop.problem.question,
        "endpoint": loop.deploy.endpoint if loop.deploy else None,
    }
    record = metadata.find("loop", loop.name)
    if record is None or record.body != known:
        metadata.put("loop", loop.name, known)


class _Cycle:
    """One call of `run_loop`: the round that is due, and at most one more of the loop's own."""

    def __init__(
        self,
        workspace: Workspace,
        read: ReadFile,
        sourced: Sourced,
        on_news: OnNews,
        overrule: str,
    ) -> None:
        self.workspace = workspace
        self.loop = read.content
        self.file = read.path.name
        self.sourced = sourced
        self.on_news = on_news
        self.overrule = overrule
        self.n_done = 0
        # where a source lies and where a secret comes from are no part of what was decided
        self.spec = _redacted(self.loop.to_json())
        self.spec["snapshot"] = Snapshot.from_json(sourced.snapshot).digest

    def turn(self) -> tuple[str, str]:
        """Do what is due and return the state and the message."""
        body = self._due_round()
        if body["state"] not in _FINAL:
            body = self._round(body)
        if self._champion() is None:
            return str(body["state"]), str(body["conclusion"])
        trigger = self._watch(body["number"])
        # while a model waits for a person, another round would only make another one wait
        if trigger.starts and body["state"] in _FINAL:
            body = self._round(self._own_round(body["number"], trigger))
            if self._champion() is not None and body["state"] in _FINAL:
                self._watch(body["number"])
        state = "live" if body["state"] == "kept champion" else body["state"]
        return str(state), str(body["conclusion"])

    def _due_round(self) -> dict[str, Any]:
        """Return the round to work on: the open one, a new one for what changed, or the last."""
        latest = self._latest_round()
        if latest is None:
            return self._begun(1, cause="first run", reason="the loop has not run before")
        if latest["spec"] == self.spec:
            if latest["state"] == "not ml" and self.overrule:
                return self._begun(
                    latest["number"] + 1, cause="overruled", reason=self.overrule, live=None
                )
            return latest
        changed = _changes(latest["spec"], self.spec)
        if latest["state"] not in _FINAL:
            latest = {**latest, "spec": self.spec}
            self.workspace.metadata.put(
                "round", round_key(self.loop.name, latest["number"]), latest
            )
            return latest
        return self._begun(
            latest["number"] + 1,
            cause="changed",
            reason=f"changed: {changed}",
            live=self._live_rows_learnt(latest),
        )

    def _live_rows_learnt(self, latest: dict[str, Any]) -> dict[str, Any] | None:
        """Return the live rows if the champion learnt from some: going back would forget them."""
        champion = self._champion()
        same_target = latest["spec"]["problem"]["target"] == self.loop.problem.target
        if champion is None or champion["learnt_until"] is None or not same_target:
            return None
        return rows_to_learn_from(
            self.workspace, self.loop, self.sourced, {**champion, "learnt_until": None}
        )

    def _latest_round(self) -> dict[str, Any] | None:
        rounds = self.workspace.metadata.list_("round", prefix=f"{self.loop.name}/")
        return rounds[-1].body if rounds else None

    def _begun(
        self, number: int, *, cause: str, reason: str, live: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        body = {
            "loop": self.loop.name,
            "number": number,
            "state": "open",
            "cause": cause,
            "reason": reason,
            "conclusion": "",
            "live": live,
            "overruled": self.overrule,
            "spec": self.spec,
            "started_at": self.workspace.clock.now().isoformat(),
            "ended_at": None,
        }
        metadata = self.workspace.metadata
        with metadata.transaction():
            metadata.put("round", round_key(self.loop.name, number), body)
            metadata.append(
                f"loop/{self.loop.name}",
                "round begun",
                {"round": number, "cause": cause, "reason": reason},
            )
        return body

    def _own_round(self, number: int, trigger: Trigger) -> dict[str, Any]:
        live = rows_to_learn_from(self.workspace, self.loop, self.sourced, self._champion() or {})
        return self._begun(
            number + 1, cause=trigger.cause or "drift", reason=trigger.reason, live=live
        )

    def _closed(self, body: dict[str, Any], state: str, conclusion: str) -> dict[str, Any]:
        ended = {
            **body,
            "state": state,
            "conclusion": conclusion,
            "ended_at": self.workspace.clock.now().isoformat() if state in _FINAL else None,
        }
        metadata = self.workspace.metadata
        with metadata.transaction():
            metadata.put("round", round_key(self.loop.name, body["number"]), ended)
            metadata.append(
                f"loop/{self.loop.name}",
                "round ended" if state in _FINAL else "round halted",
                {"round": body["number"], "state": state, "conclusion": conclusion},
            )
        return ended

    def _champion(self) -> dict[str, Any] | None:
        record = self.workspace.metadata.find("champion", self.loop.name)
        return record.body if record else None

    def _round(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take one round through its steps, from the problem to the watched endpoint."""
        runner = StepRunner(self.workspace, self.loop.name, body["number"], self.on_news)
        try:
            return self._steps(runner, body)
        finally:
            self.n_done += runner.n_done

    def _steps(self, runner: StepRunner, body: dict[str, Any]) -> dict[str, Any]:
        workspace, loop, target = self.workspace, self.loop, self.sourced.target
        about = {
            "problem": msgspec.to_builtins(loop.problem),
            "target": msgspec.to_builtins(target),
        }
        seals = sealed_criteria(workspace, loop)
        runner.run(
            "problem", inputs=[about, seals], work=lambda: stated_problem(loop, target, seals)
        )
        live = body["live"]
        parts = runner.run(
            "data",
            inputs=[self.spec["snapshot"], self.spec["data"]["split"], target.column, live],
            work=lambda: parted_rows(workspace, loop, self.sourced, live),
        )
        rows = {name: parts[name] for name in ("windows", "validation")}
        looked = runner.run(
            "explore",
            inputs=[rows, target.column, target.task],
            work=lambda: explored(workspace, target, parts),
        )
        if live is None:
            dropped = [
                name
                for name, kind in looked["kinds"].items()
                if kind in ("identifier", "constant", "text")
            ] + list(loop.prepare.drop)
            verdict = runner.run(
                "decide",
                inputs=[rows, about, sorted(dropped), loop.train.seed],
                work=lambda: decided(workspace, loop, target, parts, dropped),
            )
            if verdict["decision"] != "ml_worth_it":
                if not body["overruled"]:
                    return self._closed(body, "not ml", _told(verdict))
                runner.note("the verdict was overruled", reason=body["overruled"])
        winner = best_candidate(runner, workspace, loop, target, parts=parts, kinds=looked["kinds"])
        return self._released(runner, body, winner, parts)

    def _released(
        self,
        runner: StepRunner,
        body: dict[str, Any],
        winner: Candidate,
        parts: dict[str, Any],
    ) -> dict[str, Any]:
        workspace, loop, target = self.workspace, self.loop, self.sourced.target
        # the champion this round is held against, also when the round is taken up again
        champion = self._champion()
        if champion is not None and champion["round"] == body["number"]:
            champion = champion["before"]
        judged = runner.run(
            "evaluate",
            inputs=[
                winner.to_json(),
                parts["test"],
                champion and champion["bundle"],
                body["cause"],
            ],
            work=lambda: evaluated(
                workspace, loop, target, winner, parts, champion=champion, round_=body
            ),
        )
        if not judged["promoted"]:
            own = body["cause"] in OWN_CAUSES
            missed = not own and not judged["criteria_hold"]
            state = "criterion missed" if missed or champion is None else "kept champion"
            return self._closed(body, state, judged["conclusion"])
        bundle = runner.run(
            "pack",
            inputs=[winner.to_json(), judged["figures"], about_sources(parts)],
            work=lambda: packed(workspace, loop, target, winner, parts, judged),
        )
        if loop.retrain.approve == "manual" and not self._approved(body["number"], bundle):
            return self._closed(
                {**body, "waiting": {"bundle": bundle["bundle"], "version": bundle["version"]}},
                "waiting for approval",
                f"{judged['conclusion']} Version {bundle['version']} waits for "
                f"`loopwright approve {self.file}`.",
            )
        if loop.deploy is None:
            self._crowned(body, winner, bundle, judged, champion)
            return self._closed(body, "live", f"{judged['conclusion']} No endpoint is asked for.")
        runner.reconcile("deploy", work=lambda: deploy(workspace, loop, bundle))
        self._crowned(body, winner, bundle, judged, champion)
        runner.run(
            "verify",
            inputs=[bundle, parts["test"], body["number"]],
            work=lambda: verified(workspace, loop, bundle, parts, body["number"]),
        )
        return self._closed(body, "live", judged["conclusion"])

    def _approved(self, number: int, bundle: dict[str, Any]) -> bool:
        """Tell whether a person approved this very model, not one that stood there before."""
        record = self.workspace.metadata.find("approval", round_key(self.loop.name, number))
        return record is not None and record.body["bundle"] == bundle["bundle"]

    def _crowned(
        self,
        body: dict[str, Any],
        winner: Candidate,
        bundle: dict[str, Any],
        judged: dict[str, Any],
        before: dict[str, Any] | None,
    ) -> None:
        """Record the champion; the same round crowns the same model once."""
        present = self._champion()
        if present is not None and present["round"] == body["number"]:
            return
        champion = {
            "round": body["number"],
            "version": bundle["version"],
            "bundle": bundle["bundle"],
            "algorithm": bundle["algorithm"],
            "figures": judged["figures"],
            "predictor": winner.members["predictor.npz"],
            "learnt_from": bundle["learnt_from"],
            "learnt_until": (body["live"] or {}).get("until"),
            "since": self.workspace.clock.now().isoformat(),
            "before": {**before, "before": None} if before else None,
        }
        metadata = self.workspace.metadata
        with metadata.transaction():
            metadata.put("champion", self.loop.name, champion)
            metadata.append(
                f"loop/{self.loop.name}",
                "champion",
                {"round": body["number"], "version": bundle["version"]},
            )

    def _watch(self, number: int) -> Trigger:
        """See to the endpoint and look at what it saw since the last look."""
        runner = StepRunner(self.workspace, self.loop.name, number, self.on_news)
        champion = self._champion() or {}
        try:
            if self.loop.deploy is not None:
                runner.reconcile("deploy", work=lambda: deploy(self.workspace, self.loop, champion))
            return look(runner, self.workspace, self.loop, self.sourced, champion)
        finally:
            self.n_done += runner.n_done


def about_sources(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the digests of the rows a bundle was made from."""
    return {name: parts[name] for name in ("windows", "validation", "test")}


def _told(verdict: dict[str, Any]) -> str:
    told = str(verdict["reason"])
    if verdict["decision"] == "rule_enough":
        told += f"\n{verdict['rule']['python']}\nAs SQL: {verdict['rule']['sql']}"
    return f"{told}\nTo train a model all the same: loopwright run --overrule 'your reason'."


def _redacted(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec without the source's address, which may hold a secret."""
    source = {k: v for k, v in spec["data"]["source"].items() if k != "url"}
    return {**spec, "data": {**spec["data"], "source": source}}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = ["the data" if key == "snapshot" else key for key in new if old.get(key) != new[key]]
    return ", ".join(changed)
