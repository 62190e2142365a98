"""The rounds of a loop: which one is due, its steps in order, and the next one."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core.errors import BackendError
from loopwright.data import Snapshot
from loopwright.loop.build import best_candidate
from loopwright.loop.candidate import Candidate
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.framing import decided, explored, parted_rows, sealed_criteria, stated_problem
from loopwright.loop.noting import notes_in_force, reasons_to_drop, with_notes
from loopwright.loop.release import (
    deploy,
    end_other_endpoints,
    packed,
    verified,
)
from loopwright.loop.sourcing import Sourced
from loopwright.loop.step import OnNews, StepNews, StepRunner, round_key
from loopwright.loop.trigger import Trigger
from loopwright.loop.verdict import evaluated
from loopwright.loop.watching import OWN_CAUSES, look, rows_to_learn_from
from loopwright.loop.workspace import Workspace

MOST_ROUNDS = 10_000
_SERVING = frozenset({"deploy", "monitor", "retrain"})
_FINAL = frozenset({"live", "kept champion", "criterion missed", "not ml"})


class Rounds:
    """The rounds of a loop in one run: the one that is due, and at most one of the loop's own."""

    def __init__(
        self,
        workspace: Workspace,
        read: ReadFile,
        sourced: Sourced,
        on_news: OnNews,
        overrule: str,
    ) -> None:
        self.workspace = workspace
        snapshot = Snapshot.from_json(sourced.snapshot)
        columns = [column.name for column in snapshot.columns]
        self.notes = notes_in_force(workspace.metadata, read.content, columns)
        self.loop = with_notes(read.content, self.notes)
        self.file = read.path.name
        self.sourced = sourced
        self.on_news = on_news
        self.overrule = overrule
        self.n_done = 0
        # what decides whether a figure means the same as before
        self.about = msgspec.json.decode(
            msgspec.json.encode({"problem": read.content.problem, "target": sourced.target})
        )
        # where a source lies and where a secret comes from are no part of what was decided
        self.spec = _redacted(read.content.to_json())
        self.spec["snapshot"] = snapshot.digest
        if self.notes:
            self.spec["notes"] = [note.content for note in self.notes]

    def turn(self) -> tuple[str, str]:
        """Do what is due and return the state and the message."""
        body = self._due_round()
        if body["state"] not in _FINAL:
            body = self._round(body)
        if self._champion() is None:
            return str(body["state"]), str(body["conclusion"])
        trigger = self._watch(body["number"])
        # while a model waits for a person, another round would only make another one wait
        if trigger.starts and body["state"] in _FINAL and (own := self._own_round(body, trigger)):
            body = self._round(own)
            if self._champion() is not None and body["state"] in _FINAL:
                self._watch(body["number"])
        state = "live" if body["state"] == "kept champion" else body["state"]
        return str(state), str(body["conclusion"])

    def _due_round(self) -> dict[str, Any]:
        """Return the round to work on: the open one, a new one for what changed, or the last."""
        latest = self._latest_round()
        if latest is None:
            return self._begun(1, cause="first run", reason="the loop has not run before")
        is_open = latest["state"] not in _FINAL
        if latest["spec"] == self.spec and not (is_open and self.overrule):
            if latest["state"] == "not ml" and self.overrule:
                return self._begun(
                    latest["number"] + 1, cause="overruled", reason=self.overrule, live=None
                )
            return latest
        changed = _changes(latest["spec"], self.spec)
        if is_open or not _asks_for_a_model(latest["spec"], self.spec):
            # the round goes on under the new file; how it is served and watched is seen to later
            latest = {**latest, "spec": self.spec}
            latest["overruled"] = self.overrule or latest["overruled"]
            if is_open and changed:
                latest["state"] = "open"  # a model that waited was made for the old file
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
        rounds = self.workspace.metadata.list_(
            "round", prefix=f"{self.loop.name}/", limit=MOST_ROUNDS
        )
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

    def _own_round(self, latest: dict[str, Any], trigger: Trigger) -> dict[str, Any] | None:
        """Begin a round of the loop's own; None if its live rows are gone meanwhile."""
        live = rows_to_learn_from(self.workspace, self.loop, self.sourced, self._champion() or {})
        if live is None:
            return None
        number = latest["number"] + 1
        body = self._begun(number, cause=trigger.cause or "drift", reason=trigger.reason, live=live)
        self.on_news(
            StepNews(
                loop=self.loop.name,
                round=number,
                stage="",
                state="note",
                summary="the loop goes round again",
                reason=trigger.reason,
            )
        )
        return body

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
            if (body["state"], body["conclusion"]) != (state, conclusion):
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
        workspace, loop, target, about = self.workspace, self.loop, self.sourced.target, self.about
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
        if body["state"] == "waiting for approval" and body["waiting"]["about"] == about:
            # the model that was judged waits; nothing is tried again meanwhile
            return self._gone_live(runner, body, parts)
        rows = {name: parts[name] for name in ("windows", "validation")}
        looked = runner.run(
            "explore",
            inputs=[rows, target.column, target.task, [note.content for note in self.notes]],
            work=lambda: explored(workspace, target, parts, self.notes),
        )
        if live is None:
            dropped = [
                name for name, kind in looked["kinds"].items() if kind in ("identifier", "constant")
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
        winner = best_candidate(
            runner,
            workspace,
            loop,
            target,
            parts=parts,
            kinds=looked["kinds"],
            reasons=reasons_to_drop(self.notes),
        )
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
        rival = champion
        if champion is not None and (gone := _forbidden(loop, champion)):
            # a model that sees what it may not, such as a leak, must not win by it
            runner.note(f"the champion is no rival: it uses {gone}", reason="no model may see that")
            rival = None
        judged = runner.run(
            "evaluate",
            inputs=[
                winner.to_json(),
                parts["test"],
                rival and rival["bundle"],
                body["cause"],
                self.about,
                loop.train.seed,
            ],
            work=lambda: evaluated(
                workspace, loop, target, winner, parts, champion=rival, round_=body
            ),
        )
        if not judged["promoted"]:
            own = body["cause"] in OWN_CAUSES
            missed = not own and not judged["criteria_hold"]
            state = "criterion missed" if missed or champion is None else "kept champion"
            return self._closed(body, state, judged["conclusion"])
        bundle = runner.run(
            "pack",
            inputs=[winner.to_json(), judged["figures"], about_sources(parts), self.about],
            work=lambda: packed(workspace, loop, target, winner, parts, judged),
        )
        waiting = {
            **bundle,
            "predictor": winner.members["predictor.npz"],
            "figures": judged["figures"],
            "conclusion": judged["conclusion"],
            "about": self.about,
        }
        return self._gone_live(runner, {**body, "waiting": waiting}, parts)

    def _gone_live(
        self, runner: StepRunner, body: dict[str, Any], parts: dict[str, Any]
    ) -> dict[str, Any]:
        """Deploy the packed model once it may be, try it in place, and make it the champion."""
        workspace, loop, model = self.workspace, self.loop, body["waiting"]
        if loop.retrain.approve == "manual" and not self._approved(body["number"], model):
            return self._closed(
                body,
                "waiting for approval",
                f"{model['conclusion']} Version {model['version']} waits for "
                f"`loopwright approve {self.file}`.",
            )
        if loop.deploy is None:
            self._crowned(body)
            return self._closed(body, "live", f"{model['conclusion']} No endpoint is asked for.")
        try:
            runner.reconcile("deploy", work=lambda: deploy(workspace, loop, model))
            runner.run(
                "verify",
                inputs=[model["bundle"], parts["test"], body["number"]],
                work=lambda: verified(workspace, loop, model, parts, body["number"]),
            )
        except BackendError:
            self._rolled_back(runner)
            raise
        self._crowned(body)
        return self._closed(body, "live", model["conclusion"])

    def _rolled_back(self, runner: StepRunner) -> None:
        """Give the endpoint back to the champion, or end it where there is none."""
        champion, plan = self._champion(), self.loop.deploy
        if champion is not None:
            runner.note("the champion answers again", reason="the new model failed in place")
            deploy(self.workspace, self.loop, champion)
        elif plan is not None and (job := self.workspace.compute.find(f"endpoint/{plan.endpoint}")):
            runner.note("the endpoint was stopped", reason="the new model failed in place")
            self.workspace.compute.stop(job.id)

    def _approved(self, number: int, bundle: dict[str, Any]) -> bool:
        """Tell whether a person approved this very model, not one that stood there before."""
        record = self.workspace.metadata.find("approval", round_key(self.loop.name, number))
        return record is not None and record.body["bundle"] == bundle["bundle"]

    def _crowned(self, body: dict[str, Any]) -> None:
        """Record the champion; the same round crowns the same model once."""
        before, model = self._champion(), body["waiting"]
        if before is not None and before["round"] == body["number"]:
            return
        champion = {
            "round": body["number"],
            "version": model["version"],
            "bundle": model["bundle"],
            "algorithm": model["algorithm"],
            "drop": list(self.loop.prepare.drop),
            "figures": model["figures"],
            "predictor": model["predictor"],
            "learnt_from": model["learnt_from"],
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
                {"round": body["number"], "version": model["version"]},
            )

    def _watch(self, number: int) -> Trigger:
        """See to the endpoint and look at what it saw since the last look."""
        runner = StepRunner(self.workspace, self.loop.name, number, self.on_news)
        for name in end_other_endpoints(self.workspace, self.loop):
            runner.note(f"the endpoint {name!r} was ended", reason="the loop file names it no more")
        champion = self._champion() or {}
        try:
            if self.loop.deploy is not None:
                runner.reconcile("deploy", work=lambda: deploy(self.workspace, self.loop, champion))
            return look(runner, self.workspace, self.loop, self.sourced, champion)
        finally:
            self.n_done += runner.n_done


def _forbidden(loop: LoopFile, champion: dict[str, Any]) -> str:
    """Return the columns that people forbade since the champion was trained; empty for none."""
    before = champion.get("drop")
    gone = [name for name in loop.prepare.drop if before is not None and name not in before]
    return ", ".join(repr(name) for name in gone)


def about_sources(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the digests of the rows a bundle was made from."""
    return {name: parts[name] for name in ("windows", "validation", "test")}


def _told(verdict: dict[str, Any]) -> str:
    told = str(verdict["reason"])
    if verdict["decision"] == "rule_enough":
        told += f"\n{verdict['rule']['python']}\nAs SQL: {verdict['rule']['sql']}"
    return f"{told}\nTo train a model all the same: loopwright run --overrule 'your reason'."


def _asks_for_a_model(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether what changed decides about the model, not only how it is served and watched."""
    return any(old.get(key) != new.get(key) for key in {*old, *new} - _SERVING)


def _redacted(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec without what may hold a secret: a source's address and options."""
    source = {k: v for k, v in spec["data"]["source"].items() if k not in ("url", "options")}
    return {**spec, "data": {**spec["data"], "source": source}}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = dict.fromkeys([*new, *old])
    changed = [
        "the data" if key == "snapshot" else key for key in keys if old.get(key) != new.get(key)
    ]
    return ", ".join(changed)
