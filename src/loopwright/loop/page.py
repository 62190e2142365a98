"""A loop for the people it serves: what was asked and agreed, how it stands, and how it got there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import cos, pi, sin
from typing import Any

from loopwright.loop.chronicle import Chronicle
from loopwright.loop.chronicle_chart import timeline
from loopwright.loop.headline import Target, headline, output_of, stated_targets
from loopwright.loop.judged_rows import Look, told_looks
from loopwright.loop.status import LoopStatus
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace
from loopwright.monitor import MonitorReport
from loopwright.monitor.bullet import Bullet, Standing, bullet, common_axis, live_bullets
from loopwright.monitor.page import told_verdict
from loopwright.monitor.sheet import page_template, whole_page
from loopwright.tune import families_of

_RING = (
    ("Problem", ("problem",)),
    ("Data", ("data",)),
    ("Explore", ("explore",)),
    ("Is it ML?", ("feasible", "decide")),
    ("Build", ("prepare", "train", "choose")),
    ("Judge", ("evaluate", "explain", "advise", "refit", "pack", "constrain")),
    ("Deploy", ("deploy", "verify")),
    ("Monitor", ("monitor",)),
)
_PLACES = {stage: place for place, (_, stages) in enumerate(_RING) for stage in stages}
_MARKS = {"done": "✓", "kept": "=", "failed": "✗", "running": "…", "skipped": "–", "not yet": ""}
_CAUSES = {
    "first run": "the first",
    "changed": "the file or the data changed",
    "criterion_missed": "a criterion was missed live",
    "drift": "the live data drifted",
    "rows": "enough new rows came",
    "overruled": "a person overruled the verdict",
}
_MANY_COLUMNS = 8
_MOST_ALARMS = 50
_MOST_DECISIONS = 200
_LONGEST_EVIDENCE = 4_000

Step = Mapping[str, Any]


def loop_page(
    status: LoopStatus,
    history: Sequence[Mapping[str, Any]],
    *,
    decision: Step | None = None,
    story: Chronicle | None = None,
) -> str:
    """Return one self-contained HTML page on a loop; its first screen needs no knowledge of ML.

    Everything that comes from the loop file, the data or a person is escaped.

    Parameters
    ----------
    status
        Where the loop stands.
    history
        What happened to it, oldest first, as `Loop.history` returns it.
    decision
        The step that last asked whether a model is needed, for a round that did not ask again;
        see `last_decision`.
    story
        The whole history in time; left out when None.
    """
    steps = _ordered(status.steps)
    decided = _latest(steps, "decide") or decision
    report = MonitorReport.from_json(status.monitor) if status.monitor else None
    targets = stated_targets(status)
    picture = timeline(story) if story is not None else None
    part = page_template("loopwright.loop", "loop.html.j2").render(
        status=status,
        headline=headline(status, steps, report),
        ring=_ring(steps),
        targets=targets,
        problem=output_of(steps, "problem"),
        judged=_judged(status, steps, targets),
        report=report,
        told=told_verdict(report) if report else None,
        live=live_bullets(report.figures) if report else [],
        timeline=_timeline(steps),
        decided=decided,
        entrants=_entrants(decided, targets),
        attempts=_attempts(steps),
        candidates=_candidates(steps, targets),
        recipe=_recipe(steps),
        rounds=[
            {**each, "why": _CAUSES.get(each["cause"], each["cause"])}
            for each in reversed(status.rounds)
        ],
        events=_events(history),
        latest_at=history[-1]["at"] if history else None,
        many_columns=_MANY_COLUMNS,
        looks=told_looks([Look(**each) for each in status.looks]),
        story=story if picture else None,
        picture=picture,
        evidence=_evidence,
        most_alarms=_MOST_ALARMS,
        most_decisions=_MOST_DECISIONS,
    )
    return whole_page(f"{status.name}: {status.question}" if status.question else status.name, part)


def _evidence(found: Mapping[str, Any]) -> str:
    text = json.dumps(found, indent=1, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_EVIDENCE else f"{text[:_LONGEST_EVIDENCE]} …"


def last_decision(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return the newest step that asked whether a model is needed; None if none ended."""
    for record in reversed(workspace.metadata.list_("round", prefix=f"{name}/")):
        key = f"{round_key(name, record.body['number'])}/decide"
        found = workspace.metadata.find("step", key)
        if found is not None and found.body.get("output"):
            return found.body
    return None


def _ordered(steps: Sequence[Step]) -> list[Step]:
    """Return steps in the order of the ring: deploy and monitor come back and are counted anew."""
    return sorted(steps, key=lambda step: (_PLACES.get(_stage(step), 4), step.get("place", 99)))


def _stage(step: Step) -> str:
    return str(step["stage"]).partition(".")[0]


def _all(steps: Sequence[Step], stage: str) -> list[Step]:
    return [step for step in steps if _stage(step) == stage and step.get("output")]


def _latest(steps: Sequence[Step], stage: str) -> Step | None:
    found = _all(steps, stage)
    return found[-1] if found else None


def _standing(step: Step) -> str:
    state = str(step["state"])
    return "kept" if state == "done" and step.get("kept_from") else state


def _ring(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the stages on a circle, clockwise from the top."""
    reached = max((_PLACES.get(_stage(step), 0) for step in steps), default=-1)
    ring = []
    for place, (name, stages) in enumerate(_RING):
        states = [_standing(step) for step in steps if _stage(step) in stages]
        order = ("failed", "running", "done", "kept")
        missing = "skipped" if place < reached else "not yet"
        state = next((each for each in order if each in states), missing)
        angle = 2 * pi * place / len(_RING)
        ring.append(
            {
                "name": name,
                "state": state,
                "mark": _MARKS[state],
                "x": round(150 + 82 * sin(angle), 1),
                "y": round(130 - 82 * cos(angle), 1),
                "label_x": round(150 + 108 * sin(angle), 1),
                "label_y": round(134 - 110 * cos(angle), 1),
                "anchor": "middle"
                if abs(sin(angle)) < 0.1
                else ("start" if sin(angle) > 0 else "end"),
            }
        )
    return ring


def _bullets(
    figures: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Target],
    axes: Mapping[str, tuple[float, float]] | None = None,
) -> list[Bullet]:
    """Return figures beside the targets in force; a criterion holds when its bound does."""
    found = []
    for metric, figure in figures.items():
        target = targets.get(metric)
        judged: Standing = "holds" if target and target.holds_for(figure) else "missed"
        found.append(
            bullet(
                metric,
                estimate=figure["value"],
                lower=figure["lower"],
                upper=figure["upper"],
                target=target.value if target else None,
                wants_low=target is None or target.wants_low,
                standing=judged if target else "undecided",
                note=f"each bound with {figure['confidence']:.0%} confidence",
                axis=(axes or {}).get(metric),
            )
        )
    return found


def _judged(
    status: LoopStatus, steps: Sequence[Step], targets: Mapping[str, Target]
) -> dict[str, Any] | None:
    """Return the figures on rows the model never saw: of the newest candidate, else the champion."""
    output, chosen = output_of(steps, "evaluate"), output_of(steps, "choose")
    if output and chosen:
        return {
            "model": chosen["candidates"][0]["algorithm"],
            "round": status.round["number"] if status.round else None,
            "n_rows": output["n_rows"],
            "promoted": output["promoted"],
            "bullets": _bullets(output["figures"], targets),
            "comparison": _comparison(output["comparison"]),
        }
    if status.champion is None:
        return None
    figures = status.champion["figures"]
    return {
        "model": status.champion["algorithm"],
        "round": status.champion["round"],
        "n_rows": max((each["n_rows"] for each in figures.values()), default=0),
        "promoted": True,
        "bullets": _bullets(figures, targets),
        "comparison": None,
    }


def _comparison(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    axis = common_axis([found["champion"], found["challenger"]])
    wants_low = (found["challenger"] < found["champion"]) == (found["gain"] > 0)
    pair = {
        name: bullet(
            found["metric"],
            estimate=found[name],
            target=found["champion"],
            wants_low=wants_low,
            axis=axis,
        )
        for name in ("champion", "challenger")
    }
    return {**found, **pair}


def _timeline(steps: Sequence[Step]) -> list[dict[str, Any]]:
    longest = max((float(step.get("wall_s") or 0.0) for step in steps), default=0.0) or 1.0
    return [
        {
            **step,
            "standing": _standing(step),
            "summary": step.get("summary", ""),
            "reason": step.get("reason", ""),
            "wall_s": step.get("wall_s"),
            "width": round(100 * float(step.get("wall_s") or 0.0) / longest, 1),
            "kept_from": step.get("kept_from"),
            "started_at": step.get("started_at"),
        }
        for step in steps
        # a later attempt may keep the very result of an earlier one
        if step.get("kept_from") is None or step["kept_from"] != step["round"]
    ]


def _entrants(decided: Step | None, targets: Mapping[str, Target]) -> list[dict[str, Any]]:
    if decided is None:
        return []
    entrants = decided["output"]["entrants"]
    axes = _axes([entrant["figures"] for entrant in entrants], targets)
    return [{**each, "bullets": _bullets(each["figures"], targets, axes)} for each in entrants]


def _candidates(steps: Sequence[Step], targets: Mapping[str, Target]) -> list[dict[str, Any]]:
    found: list[Mapping[str, Any]] = list(output_of(steps, "choose").get("candidates", ()))
    axes = _axes([candidate["figures"] for candidate in found], targets)
    return [{**each, "bullets": _bullets(each["figures"], targets, axes)} for each in found]


def _axes(
    tables: Sequence[Mapping[str, Mapping[str, Any]]], targets: Mapping[str, Target]
) -> dict[str, tuple[float, float]]:
    """Return an axis for every metric, so that the charts below each other compare."""
    metrics = dict.fromkeys(metric for figures in tables for metric in figures)
    return {
        metric: common_axis(
            [
                *(
                    f[metric][end]
                    for f in tables
                    if metric in f
                    for end in ("lower", "upper")
                    if f[metric][end] is not None
                ),
                targets[metric].value if metric in targets else None,
            ]
        )
        for metric in metrics
    }


def _attempts(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return each attempt with what was hoped and what came of it."""
    attempts = []
    for number, (trained, chosen) in enumerate(
        zip_longest(_all(steps, "train"), _all(steps, "choose")), start=1
    ):
        if trained is None:
            continue
        jobs = trained["output"]["jobs"]
        attempts.append(
            {
                "number": number,
                "idea": trained["output"]["idea"],
                "hypothesis": trained["output"]["hypothesis"],
                "conclusion": chosen["output"]["conclusion"] if chosen else "",
                "summary": chosen["summary"] if chosen else "",
                "n_models": sum("members" in job for job in jobs),
                "failed": [job for job in jobs if "members" not in job],
            }
        )
    return attempts


def _recipe(steps: Sequence[Step]) -> dict[str, Any] | None:
    """Return the steps that made the features of the best candidate, or of the first recipe."""
    prepared, chosen = _latest(steps, "prepare"), output_of(steps, "choose")
    if prepared is None:
        return None
    explained = {
        name: lines for step in _all(steps, "prepare") for name, lines in _explained(step).items()
    }
    name = next(iter(explained), "")
    if chosen:
        best = chosen["candidates"][0]
        wanted = [f"{f}/{best['window']}" for f in families_of([best["algorithm"]])]
        name = next((each for each in reversed(wanted) if each in explained), name)
    return {
        "name": name,
        "steps": explained.get(name, []),
        "transform": prepared["output"]["target_transform"],
        "transform_reason": prepared["output"]["target_transform_reason"],
    }


def _explained(step: Step) -> dict[str, list[Any]]:
    explained: dict[str, list[Any]] = step["output"]["explained"]
    return explained


def _events(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what happened, newest first, without the starts of steps."""
    shown = []
    for event in reversed(history):
        if event["what"] == "step started":
            continue
        told = ("stage", "cause", "state", "summary", "reason", "conclusion", "version", "by")
        texts = [str(event[name]) for name in told if event.get(name)]
        shown.append({"at": event["at"], "what": event["what"], "texts": texts})
    return shown
