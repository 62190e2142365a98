"""Where a loop stands in one sentence for everyone, and what a person should do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.loop.status import LoopStatus
from loopwright.monitor import MonitorReport
from loopwright.monitor.bullet import metric_words, told_value
from loopwright.monitor.page import Tone, told_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The state of a loop: its colour, what it is, what it means, and what to do."""

    tone: Tone
    title: str
    meaning: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a criterion now in force asks of its metric."""

    metric: str
    value: float
    wants_low: bool

    def __str__(self) -> str:
        side = "at most" if self.wants_low else "at least"
        return f"{metric_words(self.metric)} {side} {told_value(self.metric, self.value)}"

    def holds_for(self, figure: Mapping[str, Any]) -> bool:
        """Return whether the bound of a figure meets the target, not only its value."""
        bound = figure["upper" if self.wants_low else "lower"]
        if bound is None:  # too few rows for any bound
            return False
        return bool(bound <= self.value if self.wants_low else bound >= self.value)


_CRITERION = re.compile(r"(?P<metric>\S+) at (?P<side>most|least) (?P<value>\S+)")
_CLOSED = {
    "criterion missed": Headline(
        tone="bad",
        title="No model is good enough yet",
        meaning="The best model found does not meet what was agreed, so none went live.",
        action="Bring more rows or columns that tell the target. Softer criteria are possible too, "
        "and will show as moved.",
    ),
    "waiting for approval": Headline(
        tone="warn",
        title="A model waits for your approval",
        meaning="It was judged on rows it never saw and is ready to go live.",
        action="Approve it with `loopwright approve`, then run the loop; or `loopwright reject` it.",
    ),
    "rolling out": Headline(
        tone="warn",
        title="A new model is being rolled out",
        meaning="It answers a part of the callers and is watched; the champion answers the others.",
        action="Run the loop now and then, or `loopwright rollout --watch`, until it has ended.",
    ),
    "rolled back": Headline(
        tone="bad",
        title="The new model was rolled back",
        meaning="An alarm came while it answered a part of the callers; the champion answers all.",
        action="The conclusion below says which; mend it and run the loop again.",
    ),
    "rejected": Headline(
        tone="warn",
        title="The model was rejected",
        meaning="It met the criteria, and a person decided that it does not go live.",
        action="Change what was missing, such as a criterion or a column, and run the loop again.",
    ),
}
_NOT_ML = {
    "rule_enough": Headline(
        tone="good",
        title="No model is needed",
        meaning="A rule that a person can read meets every criterion.",
        action="Use the rule below, or let it be served: decide: {when_rule_is_enough: deploy}. To "
        "train a model all the same, run with --overrule and a reason.",
    ),
    "not_with_this_data": Headline(
        tone="warn",
        title="Not with this data",
        meaning="The columns tell something of the answer, but not enough for what was agreed.",
        action="Collect what is said below, or agree on less. To train a model all the same, run "
        "with --overrule and a reason.",
    ),
    "no_signal": Headline(
        tone="warn",
        title="These columns do not tell the answer",
        meaning="Nothing tried does better than giving everyone the same answer.",
        action="Look for data that has to do with the question before any model is trained.",
    ),
}
_ONE_ANSWER = Headline(
    tone="warn",
    title="One answer for all meets what was agreed",
    meaning="Giving every case the same answer meets every criterion, so nothing has to be foretold.",
    action="If that is no use to you, a criterion is missing, such as precision beside recall, or a "
    "payoff. To train a model all the same, run with --overrule and a reason.",
)


def stated_targets(status: LoopStatus) -> dict[str, Target]:
    """Return the target of every criterion now in force, by metric."""
    criteria = status.seals[-1]["criteria"] if status.seals else []
    read = [_CRITERION.fullmatch(criterion) for criterion in criteria]
    return {
        each["metric"]: Target(
            metric=each["metric"], value=float(each["value"]), wants_low=each["side"] == "most"
        )
        for each in read
        if each is not None
    }


def output_of(steps: Sequence[Mapping[str, Any]], stage: str) -> Mapping[str, Any]:
    """Return the output of the last step of a stage, such as `choose.2`; empty if none ended."""
    found: list[Mapping[str, Any]] = [
        step["output"]
        for step in steps
        if str(step["stage"]).partition(".")[0] == stage and step.get("output")
    ]
    return found[-1] if found else {}


def headline(
    status: LoopStatus, steps: Sequence[Mapping[str, Any]], report: MonitorReport | None
) -> Headline:
    """Return where a loop stands, in words for everyone."""
    if status.round is None:
        return Headline(
            tone="none",
            title="It has not run yet",
            meaning="The question is written down; nothing was learnt so far.",
            action=f"Run it: loopwright run {status.file}",
        )
    state = str(status.round["state"])
    if state == "open":
        return _open(steps)
    if state in ("not ml", "rule enough"):
        found = output_of(steps, "decide")
        if found.get("way") == "constant":
            return _ONE_ANSWER
        return _NOT_ML.get(str(found.get("decision")), _NOT_ML["no_signal"])
    if state in _CLOSED:
        return _CLOSED[state]
    return _live(status, steps, report)


def _open(steps: Sequence[Mapping[str, Any]]) -> Headline:
    failed = next((step for step in steps if step["state"] == "failed"), None)
    if failed is None:
        return Headline(
            tone="warn",
            title="A round is under way",
            meaning="It is not finished, or it was interrupted.",
            action="If nothing is running, run the loop again: it goes on where it stopped.",
        )
    return Headline(
        tone="bad",
        title=f"It stopped at the step “{failed['stage']}”",
        meaning=str(failed.get("reason", "")),
        action="Mend the cause and run the loop again: it goes on where it stopped.",
    )


def _live(
    status: LoopStatus, steps: Sequence[Mapping[str, Any]], report: MonitorReport | None
) -> Headline:
    endpoint = status.endpoint
    if endpoint is not None and not endpoint["alive"]:
        return Headline(
            tone="bad",
            title="The model does not answer",
            meaning="It was released, but its endpoint is not running.",
            action="Run the loop: it starts the endpoint again.",
        )
    where = "The model is live" if endpoint is not None else "The model is ready"
    told = told_verdict(report) if report is not None else None
    if report is not None and told is not None and told.tone == "bad":
        return Headline(
            tone="bad",
            title=f"{where}, but needs attention",
            meaning=f"{told.title}: {report.reason}",
            action=report.action,
        )
    missed = _missed(status)
    if missed:
        return Headline(
            tone="warn",
            title=f"{where}, with a criterion missed",
            meaning=f"{' and '.join(missed).capitalize()}: that does not hold with the confidence "
            f"that was asked for.{_despite(steps)}",
            action="Decide whether that is good enough for now; more labelled rows will help.",
        )
    if report is not None and told is not None and told.tone == "warn":
        return Headline(
            tone="warn", title=f"{where}. {told.title}", meaning=told.meaning, action=report.action
        )
    if not stated_targets(status):
        return Headline(
            tone="warn",
            title=f"{where}; nothing was agreed",
            meaning="No criteria are stated, so nobody can say whether it is good enough.",
            action="State in the loop file what must hold.",
        )
    kept = status.round is not None and status.round["state"] == "kept champion"
    return Headline(
        tone="good",
        title=f"{where} and meets what was agreed",
        meaning="The newest candidate was not better, so the model before it stays."
        if kept
        else "Every criterion holds on rows the model never saw.",
        action="Nothing. The loop goes round again by itself when the world changes."
        if endpoint is not None
        else "Use the model, or add a deploy block to put it behind an endpoint.",
    )


def _missed(status: LoopStatus) -> list[str]:
    """Return the criteria that the champion misses on the rows it was judged on."""
    figures = status.champion["figures"] if status.champion else {}
    return [
        str(target)
        for metric, target in stated_targets(status).items()
        if metric in figures and not target.holds_for(figures[metric])
    ]


def _despite(steps: Sequence[Mapping[str, Any]]) -> str:
    judged = output_of(steps, "evaluate")
    if judged.get("promoted") and (judged["comparison"] or {}).get("is_better"):
        return " It went live because it is better than the model before it, beyond doubt."
    return ""
