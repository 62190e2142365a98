"""The release half of a round: its winner judged, looked at, packed, approved and live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from loopwright.core.errors import BackendError
from loopwright.loop.approval import (
    allow_by_policy,
    check_released,
    close_rejected,
    find_rejection,
    is_approved,
    release_policy,
)
from loopwright.loop.build import spent_minutes
from loopwright.loop.candidate import Candidate
from loopwright.loop.constraining import constrained, measures_model
from loopwright.loop.diagnosis import what_would_help
from loopwright.loop.examination import examined
from loopwright.loop.explaining import column_shares, explained, personal_columns
from loopwright.loop.feedback_state import STOPPED, Ticked, Trained
from loopwright.loop.feedback_store import tell
from loopwright.loop.file import LoopFile
from loopwright.loop.judged_rows import Look, candidate_digest
from loopwright.loop.progress import taken_further
from loopwright.loop.refitting import fitted_again, refit_of
from loopwright.loop.release import crowned, deploy, packed, verified
from loopwright.loop.rollout import goes_in_steps
from loopwright.loop.round_record import champion_of, closed
from loopwright.loop.sourcing import Target
from loopwright.loop.spec import decision_digest
from loopwright.loop.step import StepRunner, round_key
from loopwright.loop.training import least_job_s, round_minutes
from loopwright.loop.trigger import OWN_CAUSES
from loopwright.loop.verdict import evaluated
from loopwright.loop.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Releasing:
    """What a round needs to know to release its winner.

    Parameters
    ----------
    workspace, loop, target
        Whose round it is; the loop with the notes that are in force.
    about
        What decides whether a figure means the same as before.
    spec
        The loop file as it is recorded.
    file
        Name of the loop file, for what a person is told to do.
    again
        Why the test rows may be looked at again.
    golden
        Digest of the rows whose truth is certain; None where there are none.
    """

    workspace: Workspace
    loop: LoopFile
    target: Target
    about: dict[str, Any]
    spec: dict[str, Any]
    file: str
    again: str
    golden: str | None = None

    def released(
        self,
        runner: StepRunner,
        body: dict[str, Any],
        winner: Candidate,
        parts: dict[str, Any],
    ) -> dict[str, Any]:
        """Judge the winner, look at it from all sides, pack it and let it go live if it may."""
        workspace, loop, target = self.workspace, self.loop, self.target
        number, now = body["number"], workspace.clock.now()
        trained = Trained(number=number, candidate=winner.title)
        tell(workspace.metadata, loop.name, trained, now=now)
        # the champion this round is held against, also when the round is taken up again
        champion = champion_of(self.workspace, self.loop.name)
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
                *self._asked_of(body),
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
                golden=self.golden,
            ),
        )
        hidden = personal_columns(workspace, loop.name, body["number"])
        learning = self._learning(body["number"])
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
                learning,
            ],
            work=lambda: examined(workspace, loop, target, winner, parts, judged, hidden, learning),
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
        again = self._fitted_again(runner, body, winner, parts)
        bundle = self._packed(runner, winner, parts, judged, told, again)
        broken = self._broken_constraints(runner, winner, bundle, parts)
        if broken and again is not None and again["taken"]:
            runner.note("the fit on all rows does not go live, the judged one may", reason=broken)
            again = None
            bundle = self._packed(runner, winner, parts, judged, told, None)
            broken = self._broken_constraints(runner, winner, bundle, parts)
        if broken:
            state = "criterion missed" if champion is None else "kept champion"
            return self._closed(body, state, f"{judged['conclusion']} {broken}")
        judged_fit = winner.members["predictor.npz"]
        served = refit_of(winner, again).members["predictor.npz"]
        waiting = {
            **bundle,
            "predictor": served,
            **({"judged": judged_fit} if served != judged_fit else {}),
            "figures": judged["figures"],
            "conclusion": " ".join([judged["conclusion"], *([again["told"]] if again else [])]),
            "about": self.about,
            "asks": judged.get("asks", ""),
        }
        return self.gone_live(runner, {**body, "waiting": waiting}, parts)

    def _fitted_again(
        self, runner: StepRunner, body: dict[str, Any], winner: Candidate, parts: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return the winner fitted on all rows, in a round that learns from live ones."""
        workspace, loop, target = self.workspace, self.loop, self.target
        if parts["live"] is None or not loop.retrain.all_rows:
            return None
        plan = loop.train
        left = round_minutes(plan, workspace.compute.capacity()) - spent_minutes(runner)
        return runner.run(
            "refit",
            inputs=[
                winner.to_json(),
                about_sources(parts),
                parts["snapshot"],
                parts["live"]["digest"],
                self.spec["data"]["split"],
                self.spec["evaluate"],
                self.golden,
                self.about,
                plan.seed,
                msgspec.to_builtins(plan.resources),
            ],
            work=lambda: fitted_again(
                workspace,
                loop,
                target,
                parts,
                winner,
                number=body["number"],
                seconds=max(least_job_s(plan), left * 60),
                golden=self.golden,
                on_change=lambda job: runner.progress("refit", f"{job.name} {job.state.value}"),
            ),
        )

    def _packed(
        self,
        runner: StepRunner,
        winner: Candidate,
        parts: dict[str, Any],
        judged: dict[str, Any],
        told: dict[str, Any],
        again: dict[str, Any] | None,
    ) -> dict[str, Any]:
        workspace, loop, target = self.workspace, self.loop, self.target
        taken = again if again is not None and again["taken"] else None
        return runner.run(
            "pack",
            inputs=[
                winner.to_json(),
                judged["figures"],
                about_sources(parts),
                self.about,
                *([taken["members"], taken["rows"], taken["evidence"]] if taken else []),
            ],
            work=lambda: packed(
                workspace,
                loop,
                target,
                winner,
                parts,
                judged,
                explanation=told["member"],
                importances=column_shares(workspace, told),
                again=taken,
            ),
        )

    def _asked_of(self, body: dict[str, Any]) -> list[Any]:
        """Return what else decides about the challenger of a round of the loop's own."""
        if not body.get("gate"):
            return []
        return [body["gate"], body["live"], self.golden, "segment_harm" in self.loop.retrain.ask]

    def _asks(self, body: dict[str, Any], model: dict[str, Any]) -> bool:
        """Tell whether a person is asked about a model that the policy would let live."""
        if release_policy(self.loop, body["cause"]) == "manual" or model.get("asks"):
            return True
        champion = champion_of(self.workspace, self.loop.name)
        first = champion is not None and champion["before"] is None
        first = first and not (champion or {}).get("taken_back")
        return first and "first_promotion" in self.loop.retrain.ask

    def _learning(self, number: int) -> dict[str, Any] | None:
        """Return the learning curve that the round's decision drew, if it drew one."""
        record = self.workspace.metadata.find("step", f"{round_key(self.loop.name, number)}/decide")
        curve: dict[str, Any] | None = ((record.body.get("output") or {}) if record else {}).get(
            "learning"
        )
        return curve

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
        workspace, loop, target = self.workspace, self.loop, self.target
        dropped = sorted(loop.prepare.drop)
        found = runner.run(
            "advise",
            inputs=[winner.to_json(), about_sources(parts), missed, dropped, self.about],
            work=lambda: what_would_help(
                workspace, loop, target, parts, winner, missed=missed, dropped=dropped
            ),
        )
        return f" What would help: {'; '.join(found['advice'])}." if found["advice"] else ""

    def gone_live(
        self, runner: StepRunner, body: dict[str, Any], parts: dict[str, Any]
    ) -> dict[str, Any]:
        """Deploy the packed model once it may be, try it in place, and make it the champion."""
        workspace, loop, model = self.workspace, self.loop, body["waiting"]
        number = body["number"]
        now = workspace.clock.now()
        if tell(workspace.metadata, loop.name, Ticked(), now=now).state in STOPPED:
            # somebody stopped the loop while the model was made; it goes on from here
            runner.note("the model does not go live now", reason="a person stopped the loop")
            return body
        if not is_approved(workspace, loop.name, number, model):
            if (said := find_rejection(workspace, loop.name, model)) is not None:
                # nobody is asked twice for the same model
                return close_rejected(
                    workspace, loop.name, body, {**said, "version": model["version"]}
                )
            if self._asks(body, model):
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
        check_released(self.workspace, self.loop.name, body["waiting"]["bundle"])
        begun = self._closed(body, "rolling out", str(body["conclusion"]))
        return taken_further(runner, self.workspace, self.loop, self.target, begun)

    def _rolled_back(self, runner: StepRunner) -> None:
        """Give the endpoint back to the champion, or end it where there is none."""
        champion, plan = champion_of(self.workspace, self.loop.name), self.loop.deploy
        if champion is not None:
            runner.note("the champion answers again", reason="the new model failed in place")
            deploy(self.workspace, self.loop, champion)
        elif plan is not None and (job := self.workspace.compute.find(f"endpoint/{plan.endpoint}")):
            runner.note("the endpoint was stopped", reason="the new model failed in place")
            self.workspace.compute.stop(job.id)

    def _closed(self, body: dict[str, Any], state: str, conclusion: str) -> dict[str, Any]:
        return closed(self.workspace, self.loop.name, body, state, conclusion)


def _forbidden(loop: LoopFile, champion: dict[str, Any]) -> str:
    """Return the columns that people forbade since the champion was trained; empty for none."""
    before = champion.get("drop")
    gone = [name for name in loop.prepare.drop if before is not None and name not in before]
    return ", ".join(repr(name) for name in gone)


def about_sources(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the digests of the rows a bundle was made from."""
    return {name: parts[name] for name in ("windows", "validation", "test")}
