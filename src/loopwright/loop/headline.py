"""Where a loop stands in one sentence for everyone, and what a person should do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.loop.status import LoopStatus
from loopwright.monitor import MonitorReport
from loopwright.monitor.page import Tone, told_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The state of a loop: its colour, what it is, what it means, and what to do."""

    tone: Tone
    title: str
    meaning: str
    action: str


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
        action="Approve it with `loopwright approve`, then run the loop.",
    ),
}
_NOT_ML = {
    "rule_enough": Headline(
        tone="good",
        title="No model is needed",
        meaning="A rule that a person can read meets every criterion.",
        action="Use the rule below. To train a model all the same, run with --overrule and a reason.",
    ),
    "no_signal": Headline(
        tone="warn",
        title="These columns do not tell the answer",
        meaning="Nothing tried does better than giving everyone the same answer.",
        action="Look for data that has to do with the question before any model is trained.",
    ),
}


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
    if state == "not ml":
        output = next((s["output"] for s in steps if s["stage"] == "decide" and s.get("output")), {})
        return _NOT_ML.get(str(output.get("decision")), _NOT_ML["no_signal"])
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
            title=f"{where}, but needs attention: {told.title[0].lower()}{told.title[1:]}",
            meaning=report.reason,
            action=report.action,
        )
    missed = _missed(steps)
    if missed:
        return Headline(
            tone="warn",
            title=f"{where}, with a criterion missed",
            meaning=f"It beats the model before it beyond doubt, but {', '.join(missed)} does not "
            "hold with the confidence that was asked for.",
            action="Decide whether that is good enough for now; more labelled rows will help.",
        )
    if report is not None and told is not None and told.tone == "warn":
        return Headline(
            tone="warn", title=f"{where}. {told.title}", meaning=told.meaning, action=report.action
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


def _missed(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the criteria that the model that went live in this round misses."""
    output = next((s["output"] for s in steps if s["stage"] == "evaluate" and s.get("output")), {})
    if not output.get("promoted"):
        return []
    return [str(each["criterion"]) for each in output["verdicts"] if not each["holds"]]
