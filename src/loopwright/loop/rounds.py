"""The rounds of a loop: which one is due, its steps in order, and the next one."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core.errors import BackendError
from loopwright.data import Snapshot
from loopwright.loop.approval import (
    allow_by_policy,
    close_rejected,
    find_rejection,
    is_approved,
    release_policy,
)
from loopwright.loop.build import best_candidate, rule_candidate
from loopwright.loop.candidate import Candidate
from loopwright.loop.constraining import constrained, measures_model, without_personal
from loopwright.loop.deciding import can_be_served, decided, told_verdict
from loopwright.loop.diagnosis import what_would_help
from loopwright.loop.examination import examined
from loopwright.loop.explaining import explained, personal_columns
from loopwright.loop.feasible import feasible
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.framing import explored, parted_rows, sealed_criteria, stated_problem
from loopwright.loop.judged_rows import Look, candidate_digest, check_look, looks_at
from loopwright.loop.noting import notes_in_force, reasons_to_drop, with_notes
from loopwright.loop.progress import taken_further
from loopwright.loop.release import (
    crowned,
    deploy,
    end_other_endpoints,
    packed,
    verified,
)
from loopwright.loop.rollout import goes_in_steps, rollout_under_way
from loopwright.loop.sourcing import Sourced
from loopwright.loop.spec import asks_for_a_model, changes, decision_digest, redacted
from loopwright.loop.step import OnNews, StepNews, StepRunner, round_key
from loopwright.loop.trigger import Trigger
from loopwright.loop.verdict import evaluated
from loopwright.loop.watching import OWN_CAUSES, look, rows_to_learn_from
from loopwright.loop.workspace import Workspace

MOST_ROUNDS = 10_000
_FINAL = frozenset(
    {
        "live",
        "kept champion",
        "criterion missed",
        "not ml",
        "rule enough",
        "rejected",
        "rolled back",
    }
)
_WITHOUT_MODEL = frozenset({"not ml", "rule enough"})


class Rounds:
    """The rounds of a loop in one run: the one that is due, and at most one of the loop's own."""

    def __init__(
        self,
        workspace: Workspace,
        read: ReadFile,
        sourced: Sourced,
        on_news: OnNews,
        overrule: str,
        again: str = "",
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
        self.again = again
        self.n_done = 0
        # what decides whether a figure means the same as before
        self.about = msgspec.json.decode(
            msgspec.json.encode({"problem": read.content.problem, "target": sourced.target})
        )
        # where a source lies and where a secret comes from are no part of what was decided
        self.spec = redacted(read.content.to_json())
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
        stays = body["state"] in ("kept champion", "rejected")
        state = "live" if stays else body["state"]
        return str(state), str(body["conclusion"])

    def _due_round(self) -> dict[str, Any]:
        """Return the round to work on: the open one, a new one for what changed, or the last."""
        latest = self._latest_round()
        if latest is None:
            return self._begun(1, cause="first run", reason="the loop has not run before")
        is_open = latest["state"] not in _FINAL
        if latest["spec"] == self.spec and not (is_open and self.overrule):
            if latest["state"] in _WITHOUT_MODEL and self.overrule:
                return self._begun(
                    latest["number"] + 1, cause="overruled", reason=self.overrule, live=None
                )
            return latest
        changed = changes(latest["spec"], self.spec)
        if is_open or not asks_for_a_model(latest["spec"], self.spec):
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
        has_model = body["state"] in ("waiting for approval", "rolling out")
        if has_model and body["waiting"]["about"] == about:
            # the model that was judged waits; nothing is tried again meanwhile
            return self._gone_live(runner, body, parts)
        # a look that will be refused is refused before anything is trained
        check_look(
            looks_at(workspace.metadata, parts["test"]),
            loop=loop.name,
            decision=decision_digest(self.spec),
            candidate=None,
            once=loop.problem.test_rows == "once",
            reason=self.again,
        )
        if live is None and loop.problem.criteria:
            runner.run(
                "feasible",
                inputs=[parts["test"], parts["n_rows"], about, loop.train.seed],
                work=lambda: feasible(workspace, loop, target, parts),
            )
        rows = {name: parts[name] for name in ("windows", "validation")}
        looked = runner.run(
            "explore",
            inputs=[rows, target.column, target.task, [note.content for note in self.notes]],
            work=lambda: explored(workspace, target, parts, self.notes),
        )
        personal = personal_columns(workspace, loop.name, body["number"])
        self.loop = loop = without_personal(loop, personal)
        if live is None:
            dropped = [
                name for name, kind in looked["kinds"].items() if kind in ("identifier", "constant")
            ] + list(loop.prepare.drop)
            verdict = runner.run(
                "decide",
                inputs=[
                    rows,
                    parts["n_rows"],
                    about,
                    self.spec["data"]["split"],
                    sorted(dropped),
                    loop.train.seed,
                ],
                work=lambda: decided(workspace, loop, target, parts, dropped),
            )
            if verdict["decision"] != "ml_worth_it" and not body["overruled"]:
                return self._without_model(runner, body, parts, verdict)
            if verdict["decision"] != "ml_worth_it":
                runner.note("the verdict was overruled", reason=body["overruled"])
        winner = best_candidate(
            runner,
            workspace,
            loop,
            target,
            parts=parts,
            kinds=looked["kinds"],
            reasons=reasons_to_drop(self.notes),
            leaks=looked.get("leaks", ()),
        )
        return self._released(runner, body, winner, parts)

    def _without_model(
        self,
        runner: StepRunner,
        body: dict[str, Any],
        parts: dict[str, Any],
        verdict: dict[str, Any],
    ) -> dict[str, Any]:
        """End the round with the verdict, or let a rule that is enough go the way of a model."""
        plan = self.loop.decide
        if plan is not None and plan.when_rule_is_enough == "deploy" and can_be_served(verdict):
            runner.note("the rule goes live like a model", reason="decide.when_rule_is_enough")
            winner = rule_candidate(
                runner, self.workspace, self.loop, self.sourced.target, parts, verdict
            )
            return self._released(runner, body, winner, parts)
        state = "rule enough" if verdict["decision"] == "rule_enough" else "not ml"
        return self._closed(body, state, told_verdict(verdict))

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
                self.spec["evaluate"],
            ],
            work=lambda: evaluated(
                workspace,
                loop,
                target,
                winner,
                parts,
                champion=rival,
                round_=body,
                look=self._look(body, winner),
            ),
        )
        hidden = personal_columns(workspace, loop.name, body["number"])
        runner.run(
            "examine",
            inputs=[
                winner.to_json(),
                parts["test"],
                judged["verdicts"],
                judged["comparison"],
                self.about,
                self.spec["data"]["split"],
                self.spec["evaluate"],
                loop.train.seed,
                sorted(hidden),
            ],
            work=lambda: examined(workspace, loop, target, winner, parts, judged, hidden),
        )
        told = runner.run(
            "explain",
            inputs=[winner.to_json(), about_sources(parts), loop.train.seed, sorted(hidden)],
            work=lambda: explained(workspace, loop, target, winner, parts, masked=hidden),
        )
        if not judged["promoted"]:
            own = body["cause"] in OWN_CAUSES
            missed = not own and not judged["criteria_hold"]
            state = "criterion missed" if missed or champion is None else "kept champion"
            helping = self._helped(runner, winner, parts, judged) if missed else ""
            return self._closed(body, state, f"{judged['conclusion']}{helping}")
        bundle = runner.run(
            "pack",
            inputs=[winner.to_json(), judged["figures"], about_sources(parts), self.about],
            work=lambda: packed(
                workspace, loop, target, winner, parts, judged, explanation=told["member"]
            ),
        )
        if broken := self._broken_constraints(runner, winner, bundle, parts):
            state = "criterion missed" if champion is None else "kept champion"
            return self._closed(body, state, f"{judged['conclusion']} {broken}")
        waiting = {
            **bundle,
            "predictor": winner.members["predictor.npz"],
            "figures": judged["figures"],
            "conclusion": judged["conclusion"],
            "about": self.about,
        }
        return self._gone_live(runner, {**body, "waiting": waiting}, parts)

    def _broken_constraints(
        self,
        runner: StepRunner,
        winner: Candidate,
        bundle: dict[str, Any],
        parts: dict[str, Any],
    ) -> str:
        """Return which constraints the packed model misses; empty where it keeps all."""
        workspace, constraints = self.workspace, self.loop.problem.constraints
        if constraints is None or not measures_model(constraints):
            return ""
        found = runner.run(
            "constrain",
            inputs=[bundle["bundle"], winner.algorithm, parts["test"], self.about],
            work=lambda: constrained(workspace, constraints, winner, bundle, parts["test"]),
        )
        missed = [each["told"] for each in found["verdicts"] if not each["holds"]]
        return f"It does not go live: {'; '.join(missed)}." if missed else ""

    def _look(self, body: dict[str, Any], winner: Candidate) -> Look:
        """Return the look at the test rows that judging the winner takes."""
        return Look(
            loop=self.loop.name,
            round=body["number"],
            decision=decision_digest(self.spec),
            candidate=candidate_digest(winner),
            at=self.workspace.clock.now().isoformat(),
            by=self.workspace.user,
            reason=self.again,
        )

    def _helped(
        self,
        runner: StepRunner,
        winner: Candidate,
        parts: dict[str, Any],
        judged: dict[str, Any],
    ) -> str:
        """Return what would help where nothing tried did; empty where that cannot be told."""
        missed = [each["metric"] for each in judged["verdicts"] if not each["holds"]]
        if not missed:
            return ""
        workspace, loop, target = self.workspace, self.loop, self.sourced.target
        dropped = sorted(loop.prepare.drop)
        found = runner.run(
            "advise",
            inputs=[winner.to_json(), about_sources(parts), missed, dropped, self.about],
            work=lambda: what_would_help(
                workspace, loop, target, parts, winner, missed=missed, dropped=dropped
            ),
        )
        return f" What would help: {'; '.join(found['advice'])}." if found["advice"] else ""

    def _gone_live(
        self, runner: StepRunner, body: dict[str, Any], parts: dict[str, Any]
    ) -> dict[str, Any]:
        """Deploy the packed model once it may be, try it in place, and make it the champion."""
        workspace, loop, model = self.workspace, self.loop, body["waiting"]
        number = body["number"]
        if not is_approved(workspace, loop.name, number, model):
            if (said := find_rejection(workspace, loop.name, model)) is not None:
                # nobody is asked twice for the same model
                return close_rejected(
                    workspace, loop.name, body, {**said, "version": model["version"]}
                )
            if release_policy(loop, body["cause"]) == "manual":
                return self._closed(
                    body,
                    "waiting for approval",
                    f"{model['conclusion']} Version {model['version']} waits for "
                    f"`loopwright approve {self.file}`.",
                )
            allow_by_policy(workspace, loop, number, model)
        if loop.deploy is None:
            crowned(workspace, loop, body)
            return self._closed(body, "live", f"{model['conclusion']} No endpoint is asked for.")
        if goes_in_steps(workspace, loop, model):
            return self._rolled_out(runner, body)
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
        crowned(workspace, loop, body)
        return self._closed(body, "live", model["conclusion"])

    def _rolled_out(self, runner: StepRunner, body: dict[str, Any]) -> dict[str, Any]:
        """Let the packed model have the traffic in steps, as far as it may go now."""
        begun = self._closed(body, "rolling out", str(body["conclusion"]))
        return taken_further(runner, self.workspace, self.loop, self.sourced.target, begun)

    def _rolled_back(self, runner: StepRunner) -> None:
        """Give the endpoint back to the champion, or end it where there is none."""
        champion, plan = self._champion(), self.loop.deploy
        if champion is not None:
            runner.note("the champion answers again", reason="the new model failed in place")
            deploy(self.workspace, self.loop, champion)
        elif plan is not None and (job := self.workspace.compute.find(f"endpoint/{plan.endpoint}")):
            runner.note("the endpoint was stopped", reason="the new model failed in place")
            self.workspace.compute.stop(job.id)

    def _watch(self, number: int) -> Trigger:
        """See to the endpoint and look at what it saw since the last look."""
        runner = StepRunner(self.workspace, self.loop.name, number, self.on_news)
        for name in end_other_endpoints(self.workspace, self.loop):
            runner.note(f"the endpoint {name!r} was ended", reason="the loop file names it no more")
        champion = self._champion() or {}
        try:
            plan = self.loop.deploy
            # a rollout sees to the endpoint itself
            if plan is not None and rollout_under_way(self.workspace, plan.endpoint) is None:
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
