"""The rounds of a loop: which one is due, its steps in order, and the next one."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.data import Snapshot
from loopwright.loop.baking import bake_standing, is_baking
from loopwright.loop.build import best_candidate, rule_candidate
from loopwright.loop.constraining import without_personal
from loopwright.loop.deciding import can_be_served, decided, told_verdict
from loopwright.loop.driving import (
    carry_out,
    configured,
    told_stop,
    wish,
    with_labels,
    with_learnt,
    with_sound_rows,
)
from loopwright.loop.explaining import personal_columns
from loopwright.loop.feasible import feasible
from loopwright.loop.feedback_state import (
    STOPPED,
    BeginRound,
    Begun,
    Compared,
    Effect,
    Event,
    Failed,
    Looked,
    LoopState,
    Ticked,
)
from loopwright.loop.feedback_store import carried_out, tell
from loopwright.loop.file import ReadFile
from loopwright.loop.framing import explored, parted_rows, sealed_criteria, stated_problem
from loopwright.loop.judged_rows import check_look, looks_at
from loopwright.loop.live import rows_to_learn_from
from loopwright.loop.noting import notes_in_force, reasons_to_drop, with_notes
from loopwright.loop.release import deploy, end_other_endpoints
from loopwright.loop.releasing import Releasing
from loopwright.loop.rollout import rollout_under_way
from loopwright.loop.round_record import FINAL, champion_of, closed, round_cost
from loopwright.loop.sourcing import Sourced
from loopwright.loop.spec import asks_for_a_model, changes, decision_digest, redacted
from loopwright.loop.step import OnNews, StepNews, StepRunner, round_key
from loopwright.loop.trigger import LEAST_ROWS, OWN_CAUSES, Seen
from loopwright.loop.watching import look
from loopwright.loop.workspace import Workspace

MOST_ROUNDS = 10_000
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
        retrain: str = "",
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
        self.retrain = retrain
        self.golden: str | None = None
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
        """Do what is due and return the state and the message.

        The feedback loop decides whether a round may begin and go on; this carries it out.
        """
        configured(self.workspace, self.loop)
        self._carry_out()
        state = self._tell(Ticked())
        if state.state in STOPPED:
            return self._stopped(state)
        body = self._due_round()
        if body["state"] not in FINAL:
            body = self._round(body)
        if self._champion() is None:
            return str(body["state"]), str(body["conclusion"])
        after = self._looked(body)
        # while a model waits for a person, another round would only make another one wait
        if after.state == "retraining" and after.own and after.round > body["number"]:
            body = self._round(self._latest_round() or body)
            if self._champion() is not None and body["state"] in FINAL:
                after = self._looked(body, again=True)
        if after.state in STOPPED or self._tell(Ticked()).state in STOPPED:
            return "held", told_stop(self._tell(Ticked()), self.file)
        latest = self._latest_round()
        if latest is not None and latest["number"] == body["number"]:
            body = latest  # its model may have been taken back
        stays = body["state"] in ("kept champion", "rejected", "failed")
        return "live" if stays else str(body["state"]), str(body["conclusion"])

    def _looked(self, body: dict[str, Any], *, again: bool = False) -> LoopState:
        """Look at the endpoint, let the feedback loop decide, and begin what it decided on."""
        seen = self._watch(body["number"])
        before = self._tell(Ticked())
        champion, target = self._champion() or {}, self.sourced.target
        if seen is not None and is_baking(before):
            found = bake_standing(self.workspace, self.loop, target, champion, before, seen)
            if found is not None and found.is_worse:
                return self._went_back(body, found)
        if seen is not None:
            seen = with_sound_rows(self.workspace, self.loop, target, champion, before, seen)
            seen = with_learnt(self.workspace, champion, before, seen)
        if self.retrain and not again:
            after = self._tell(wish(self.workspace, self.loop, before, seen, self.retrain))
        elif seen is not None:
            heard = with_labels(self.workspace, self.loop, target, champion, before, seen)
            after = self._tell(Looked(seen=heard))
        else:
            after = before
        self._carry_out()
        if after != before and after.state in ("triage", "held"):
            runner = StepRunner(self.workspace, self.loop.name, body["number"], self.on_news)
            runner.note("the loop does not go round again", reason=after.reason)
        return self._tell(Ticked())

    def _went_back(self, body: dict[str, Any], found: Compared) -> LoopState:
        """Let the feedback loop go back to the champion before, and the endpoint follow."""
        after = self._tell(found)
        self._carry_out()
        runner = StepRunner(self.workspace, self.loop.name, body["number"], self.on_news)
        runner.note(f"version {found.beside} answers again", reason=found.reason)
        champion = self._champion() or {}
        runner.reconcile("deploy", work=lambda: deploy(self.workspace, self.loop, champion))
        return after

    def _stopped(self, state: LoopState) -> tuple[str, str]:
        """Begin nothing; see to it that the champion answers."""
        latest = self._latest_round()
        if latest is not None and self._champion() is not None:
            seen = self._watch(latest["number"])
            if seen is not None:
                self._tell(Looked(seen=seen))
        return "held", told_stop(state, self.file)

    def _tell(self, event: Event) -> LoopState:
        workspace = self.workspace
        return tell(workspace.metadata, self.loop.name, event, now=workspace.clock.now())

    def _carry_out(self) -> None:
        carried_out(self.workspace.metadata, self.loop.name, self._do)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, BeginRound):
            self._own_round(effect)
        else:
            carry_out(self.workspace, self.loop, effect, self.on_news)

    def _due_round(self) -> dict[str, Any]:
        """Return the round to work on: the open one, a new one for what changed, or the last."""
        latest = self._latest_round()
        if latest is None:
            return self._begun(1, cause="first run", reason="the loop has not run before")
        is_open = latest["state"] not in FINAL
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
        self,
        number: int,
        *,
        cause: str,
        reason: str,
        live: dict[str, Any] | None = None,
        gate: dict[str, Any] | None = None,
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
            **({"gate": gate} if gate else {}),
        }
        metadata = self.workspace.metadata
        with metadata.transaction():
            self._tell(Begun(number=number, cause=cause, reason=reason))
            metadata.put("round", round_key(self.loop.name, number), body)
            metadata.append(
                f"loop/{self.loop.name}",
                "round begun",
                {"round": number, "cause": cause, "reason": reason},
            )
        return body

    def _own_round(self, effect: BeginRound) -> None:
        """Begin the round that the feedback loop decided on; nothing if it has begun already."""
        number, name = effect.number, self.loop.name
        if self.workspace.metadata.find("round", round_key(name, number)) is not None:
            return
        live = rows_to_learn_from(
            self.workspace,
            self.loop,
            self.sourced,
            self._champion() or {},
            without=effect.without,
            recent_since=effect.since,
        )
        if live is None or live["n_fresh"] < LEAST_ROWS:
            n = live["n_fresh"] if live else 0
            told = f"Only {n:,} new labelled rows of sound data are there; {LEAST_ROWS} are needed."
            self._tell(Failed(number=number, error=told, is_final=True))
            return
        self._begun(
            number,
            cause=effect.cause or "drift",
            reason=effect.reason,
            live=live,
            gate={"kind": effect.gate, "trial": effect.trial},
        )
        self.on_news(
            StepNews(
                loop=name,
                round=number,
                stage="",
                state="note",
                summary="the loop goes round again",
                reason=effect.reason,
            )
        )

    def _closed(self, body: dict[str, Any], state: str, conclusion: str) -> dict[str, Any]:
        return closed(self.workspace, self.loop.name, body, state, conclusion)

    def _champion(self) -> dict[str, Any] | None:
        return champion_of(self.workspace, self.loop.name)

    def _round(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take one round through its steps, from the problem to the watched endpoint."""
        runner = StepRunner(self.workspace, self.loop.name, body["number"], self.on_news)
        try:
            return self._steps(runner, body)
        except Exception as error:
            self._tell_failure(body, error)
            raise
        finally:
            self.n_done += runner.n_done

    def _tell_failure(self, body: dict[str, Any], error: Exception) -> None:
        """Let the feedback loop decide whether a round of its own that failed is tried again."""
        if body["cause"] not in OWN_CAUSES:
            return
        minutes, money = round_cost(self.workspace, self.loop.name, body)
        self._tell(
            Failed(number=body["number"], error=str(error)[:2000], minutes=minutes, money=money)
        )
        self._carry_out()

    def _steps(self, runner: StepRunner, body: dict[str, Any]) -> dict[str, Any]:
        workspace, loop, target, about = self.workspace, self.loop, self.sourced.target, self.about
        seals = sealed_criteria(workspace, loop)
        runner.run(
            "problem", inputs=[about, seals], work=lambda: stated_problem(loop, target, seals)
        )
        live = body["live"]
        parts = runner.run(
            "data",
            inputs=[
                self.spec["snapshot"],
                self.spec["data"]["split"],
                target.column,
                live,
                *([list(loop.retrain.windows)] if live is not None else []),
            ],
            work=lambda: parted_rows(workspace, loop, self.sourced, live),
        )
        has_model = body["state"] in ("waiting for approval", "rolling out")
        if has_model and body["waiting"]["about"] == about:
            # the model that was judged waits; nothing is tried again meanwhile
            return self._releasing().gone_live(runner, body, parts)
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
        return self._releasing().released(runner, body, winner, parts)

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
            return self._releasing().released(runner, body, winner, parts)
        state = "rule enough" if verdict["decision"] == "rule_enough" else "not ml"
        return self._closed(body, state, told_verdict(verdict))

    def _releasing(self) -> Releasing:
        return Releasing(
            workspace=self.workspace,
            loop=self.loop,
            target=self.sourced.target,
            about=self.about,
            spec=self.spec,
            file=self.file,
            again=self.again,
            golden=self.golden,
        )

    def _watch(self, number: int) -> Seen | None:
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
