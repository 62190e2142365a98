"""The report on a model: what was asked, what came out, what it goes by, and where it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.evaluate.examination import Examination
from loopwright.evaluate.explanation import ExplanationReading
from loopwright.evaluate.fairness import FairnessReading, LimitReading
from loopwright.loop.explaining import read_explanation
from loopwright.loop.headline import Headline, headline, output_of
from loopwright.loop.status import LoopStatus, loop_status
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace
from loopwright.monitor import MonitorReport
from loopwright.monitor.bullet import metric_words, told_value
from loopwright.problem import moves
from loopwright.train.reason import told_number

RATE_WORDS = {
    "selection_rate": "chosen",
    "recall": "found among the positive",
    "false_positive_rate": "chosen among the negative",
    "precision": "right among the chosen",
    "said_less_happened": "probability said less what happened",
    "bias": "answer less truth",
}
_SHARES = frozenset({*RATE_WORDS, "accuracy", "balanced_accuracy", "mape"}) - {"bias"}
_MOST_SEGMENTS = 3
_MOST_WEAK = 3
_PER = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCriterion:
    """A criterion in words, what was measured, and whether its bound holds; None if not judged."""

    words: str
    criterion: str
    measured: str
    bound: str
    holds: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Whether the model is live, in one word, with who decided it and when."""

    state: str
    tone: str
    by: str = ""
    at: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """Everything that is known about the model of one round, for the people it concerns.

    Parameters
    ----------
    headline
        The verdict in plain words.
    criteria
        As they were agreed, with what was measured.
    money
        What it comes to, a sentence each.
    release
        Whether it is live, waits, or was refused.
    facts
        Name and text of what is on record of model and data.
    intended, not_intended, limits
        The model card: sentences.
    moved
        Goalposts that were moved.
    looks
        How often the test rows were read, in words.
    examination, explanation
        Figures on the test rows; None where the round has none.
    """

    loop: str
    question: str
    action: str
    today: str
    round: int
    at: str
    conclusion: str
    headline: Headline
    criteria: tuple[JudgedCriterion, ...]
    confidence: float
    money: tuple[str, ...]
    people: tuple[str, ...]
    release: Release
    facts: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    recipe: tuple[tuple[str, str, str], ...]
    intended: tuple[str, ...]
    not_intended: tuple[str, ...]
    limits: tuple[str, ...]
    moved: tuple[str, ...]
    looks: str
    sealed: str
    decided: Mapping[str, Any]
    examination: Examination | None
    explanation: ExplanationReading | None
    fairness: tuple[FairnessReading, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return value


def model_report(workspace: Workspace, name: str, *, number: int | None = None) -> ModelReport:
    """Return the report on the model of a round.

    Parameters
    ----------
    number
        The round; by default the newest, or while it is under way the last in which a model was
        judged.

    Raises
    ------
    NotFoundError
        If there is no such loop or round.
    WrongStateError
        If the loop has not run yet.
    """
    status = loop_status(workspace, name)
    if status.round is None:
        raise WrongStateError(
            f"The loop {name!r} has not run yet, so there is nothing to report.",
            hint=f"Run it: loopwright run {status.file}",
            kind="loop",
            name=name,
        )
    chosen = _chosen_round(workspace, status, number)
    record = workspace.metadata.get("round", round_key(name, chosen["number"])).body
    steps = _steps(workspace, name, chosen["number"])
    return _report(workspace, status, record, steps)


def _steps(workspace: Workspace, name: str, number: int) -> list[dict[str, Any]]:
    found = workspace.metadata.list_("step", prefix=f"{round_key(name, number)}/")
    return sorted((each.body for each in found), key=lambda body: body.get("place", 0))


def _chosen_round(workspace: Workspace, status: LoopStatus, number: int | None) -> dict[str, Any]:
    if number is not None:
        found = [each for each in status.rounds if each["number"] == number]
        if not found:
            raise NotFoundError(
                f"The loop {status.name!r} has no round {number}.",
                hint=f"It has the rounds 1 to {status.rounds[-1]['number']}.",
                kind="round",
                name=str(number),
            )
        return found[0]
    newest: dict[str, Any] = status.rounds[-1]
    if newest["state"] != "open":
        return newest
    # a round under way has no model yet: the one before it tells more
    for each in reversed(status.rounds):
        key = f"{round_key(status.name, each['number'])}/evaluate"
        step = workspace.metadata.find("step", key)
        if step is not None and step.body.get("output"):
            return dict(each)
    return newest


def _report(
    workspace: Workspace,
    status: LoopStatus,
    record: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
) -> ModelReport:
    problem = record["spec"]["problem"]
    judged, chosen = output_of(steps, "evaluate"), output_of(steps, "choose")
    seals = output_of(steps, "problem").get("seals") or list(status.seals)
    examination = _examination(workspace, steps)
    fairness = tuple(FairnessReading.from_json(each) for each in judged.get("fairness", ()))
    explanation = read_explanation(workspace, dict(output_of(steps, "explain")))
    moved = tuple(str(move) for move in moves(seals))
    release = _release(workspace, status, record)
    today = problem.get("today") or {}
    return ModelReport(
        loop=status.name,
        question=status.question or problem.get("question") or "",
        action=problem.get("action", ""),
        today=_told_today(today),
        round=record["number"],
        at=str(record.get("ended_at") or record["started_at"]),
        conclusion=str(record["conclusion"]),
        headline=_headline(status, record, steps),
        criteria=_criteria(problem, judged, fairness),
        confidence=float(problem.get("confidence", 0.95)),
        money=_money(judged, today, problem, examination, output_of(steps, "decide")),
        people=_people(problem),
        release=release,
        facts=tuple(_facts(record, steps, judged, chosen)),
        findings=tuple(output_of(steps, "explore").get("summary", ()))[1:],
        recipe=_recipe(steps, chosen),
        intended=tuple(_intended(problem, output_of(steps, "problem"))),
        not_intended=tuple(_not_intended(problem)),
        limits=tuple(_limits(examination, explanation, fairness, moved)),
        moved=moved,
        looks=_told_looks(judged),
        sealed=_told_seal(seals),
        decided=dict(output_of(steps, "decide")),
        examination=examination,
        explanation=explanation,
        fairness=fairness,
    )


def _headline(
    status: LoopStatus, record: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> Headline:
    """Return the verdict of the round; the newest one also says how it is live."""
    if status.round is not None and status.round["number"] == record["number"]:
        report = MonitorReport.from_json(status.monitor) if status.monitor else None
        return headline(status, list(steps), report)
    was_live = record["state"] == "live"
    return Headline(
        tone="good" if was_live else "none",
        title=f"Round {record['number']}: {record['state']}",
        meaning="This is an earlier round of the loop.",
        action="See the newest round for how it stands today.",
    )


def _examination(workspace: Workspace, steps: Sequence[Mapping[str, Any]]) -> Examination | None:
    for step in reversed(steps):
        digest = (step.get("output") or {}).get("examination")
        if digest and workspace.artifacts.has(digest):
            return Examination.from_json(json.loads(workspace.artifacts.get_bytes(digest)))
    return None


def _told_today(today: Mapping[str, Any]) -> str:
    told = str(today.get("does") or "")
    cost = today.get("cost_per_case")
    return f"{told or 'not described'}, {cost:g} a case" if cost is not None else told


def _criteria(
    problem: Mapping[str, Any],
    judged: Mapping[str, Any],
    fairness: Sequence[FairnessReading],
) -> tuple[JudgedCriterion, ...]:
    verdicts = {each["criterion"]: each for each in judged.get("verdicts", ())}
    found = []
    for criterion in problem.get("criteria", ()):
        metric, wants_low = criterion["metric"], criterion.get("at_most") is not None
        target = criterion["at_most"] if wants_low else criterion["at_least"]
        side = "at most" if wants_low else "at least"
        told = f"{metric} {side} {target:g}"
        verdict = verdicts.get(told)
        words = metric_words(metric)
        found.append(
            JudgedCriterion(
                words=f"{words[:1].upper()}{words[1:]}: {side} {told_value(metric, target)}",
                criterion=told,
                measured="" if verdict is None else told_value(metric, verdict["value"]),
                bound="" if verdict is None else _told_bound(metric, verdict, wants_low=wants_low),
                holds=None if verdict is None else bool(verdict["holds"]),
            )
        )
    found += [
        JudgedCriterion(
            words=_fair_words(limit),
            criterion=limit.limit,
            measured=_measured(limit),
            bound=limit.reason or _told_fair(limit),
            holds=limit.holds,
        )
        for reading in fairness
        for limit in reading.limits
    ]
    return tuple(found)


def _fair_words(limit: LimitReading) -> str:
    what = RATE_WORDS.get(limit.metric) or metric_words(limit.metric)
    asked = []
    if limit.at_most_gap is not None:
        asked.append(f"groups differ by at most {told_rate(limit.metric, limit.at_most_gap)}")
    if limit.at_least_ratio is not None:
        asked.append(f"the least group gets at least {limit.at_least_ratio:.3g} times the greatest")
    return f"Fair by {limit.column}, {what}: {' and '.join(asked)}"


def told_rate(metric: str, gap: float) -> str:
    """Return a difference of a rate in words: points where it is a share.

    Examples
    --------
    >>> [told_rate("selection_rate", 0.15), told_rate("mae", 1200.0)]
    ['15 points', '1,200']
    """
    return f"{told_number(100 * gap)} points" if metric in _SHARES else told_number(gap)


def _measured(limit: LimitReading) -> str:
    if limit.at_most_gap is not None and limit.gap is not None:
        return told_rate(limit.metric, limit.gap)
    return "" if limit.ratio is None else f"{limit.ratio:.2f} times"


def _told_fair(limit: LimitReading) -> str:
    told = []
    if limit.at_most_gap is not None and limit.gap_upper is not None:
        told.append(f"at most {told_rate(limit.metric, limit.gap_upper)}")
    if limit.at_least_ratio is not None and limit.ratio_lower is not None:
        told.append(f"at least {limit.ratio_lower:.2f} times")
    return f"beyond doubt {' and '.join(told)}"


def _told_bound(metric: str, verdict: Mapping[str, Any], *, wants_low: bool) -> str:
    bound = verdict["bound"]
    if bound is None:
        return "too few rows to be sure"
    return f"beyond doubt {'at most' if wants_low else 'at least'} {told_value(metric, bound)}"


def _money(
    judged: Mapping[str, Any],
    today: Mapping[str, Any],
    problem: Mapping[str, Any],
    examination: Examination | None,
    decided: Mapping[str, Any],
) -> tuple[str, ...]:
    told = []
    earned = judged.get("figures", {}).get("profit_per_case") or _seen_to_earn(examination)
    if earned is not None and earned["value"] is not None:
        line = f"{_signed(_PER * earned['value'])} for every {_PER:,} cases"
        if earned["lower"] is not None:
            line += f", beyond doubt {_signed(_PER * earned['lower'], least=True)}"
        told.append(line)
    elif problem.get("payoff") and judged:
        told.append("What outcomes earn is stated, but not what this model earns")
    beside = decided.get("advantage") or {}
    if beside.get("metric") == "profit_per_case" and judged:
        more = f"{_PER * beside['gain']:+,.0f} ({_PER * beside['lower']:+,.0f} to "
        told.append(
            f"Before training, a quick model was worth {more}{_PER * beside['upper']:+,.0f}) for every "
            f"{_PER:,} cases beside a simple way"
        )
    cost = today.get("cost_per_case")
    if cost is not None:
        told.append(f"Today's way costs {_PER * cost:,.0f} for every {_PER:,} cases")
    return tuple(told)


def _seen_to_earn(examination: Examination | None) -> Mapping[str, Any] | None:
    """Return what a case earned on the test rows, also where no criterion asks for it."""
    for each in examination.figures if examination is not None else ():
        if each.metric == "profit_per_case":
            return {"value": each.value, "lower": each.lower}
    return None


def _signed(value: float, *, least: bool = False) -> str:
    if least:
        return f"at least {value:,.0f}" if value >= 0 else f"a loss of at most {-value:,.0f}"
    return f"Earns {value:,.0f}" if value >= 0 else f"Loses {-value:,.0f}"


def _people(problem: Mapping[str, Any]) -> tuple[str, ...]:
    told = []
    for person in problem.get("people", ()):
        if isinstance(person, str):
            told.append(person)
        else:
            role = person.get("role")
            told.append(f"{person['name']} ({role})" if role else person["name"])
    return tuple(told)


_STATES = {
    "live": ("live", "good"),
    "kept champion": ("not live: the model before it stays", "none"),
    "waiting for approval": ("waits for approval", "warn"),
    "rolling out": ("is being rolled out", "warn"),
    "rolled back": ("rolled back", "bad"),
    "rejected": ("rejected", "bad"),
    "criterion missed": ("not live: a criterion is missed", "bad"),
    "not ml": ("no model was made", "none"),
    "rule enough": ("no model is needed", "good"),
    "open": ("under way", "warn"),
}


def _release(workspace: Workspace, status: LoopStatus, record: Mapping[str, Any]) -> Release:
    state, tone = _STATES.get(str(record["state"]), (str(record["state"]), "none"))
    if record["state"] == "live":
        newest = status.champion is not None and status.champion["round"] == record["number"]
        if not newest:
            state, tone = "was live, replaced since", "none"
        elif status.endpoint is None:
            state = "approved, without an endpoint"
        elif not status.endpoint["alive"]:
            state, tone = "approved, but its endpoint is not running", "bad"
    approval = workspace.metadata.find("approval", round_key(status.name, record["number"]))
    if approval is None:
        return Release(state=state, tone=tone)
    said = approval.body
    by = "the policy of the loop file" if said.get("by") == "policy" else str(said.get("by", ""))
    return Release(
        state=state,
        tone=tone,
        by=by,
        at=str(said.get("at", "")),
        reason=str(said.get("reason", "")),
    )


def _facts(
    record: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    judged: Mapping[str, Any],
    chosen: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Return what is on record of model and data, name and text."""
    found: list[tuple[str, str]] = []
    best = (chosen.get("candidates") or [None])[0]
    if best is not None:
        found.append(("algorithm", str(best["algorithm"])))
        found.append(("models tried", f"{len(chosen['candidates'])}"))
    packed = output_of(steps, "pack")
    if packed:
        found.append(("version", str(packed["version"])))
        found.append(("size", f"{packed['n_bytes'] / 1024:,.0f} KiB"))
    problem, data = output_of(steps, "problem"), output_of(steps, "data")
    if problem:
        found.append(("predicts", f"{problem['target']} ({problem['task']})"))
    for step in steps:
        if step["stage"] == "data":
            found.append(("rows", str(step.get("summary", ""))))
            found.append(("split", str(step.get("reason", "")).removeprefix("split ")))
    if data.get("snapshot"):
        digest = data["snapshot"].get("digest") if isinstance(data["snapshot"], Mapping) else ""
        if digest:
            found.append(("snapshot", str(digest)))
    if judged:
        found.append(("judged on", f"{judged['n_rows']:,} rows it never saw"))
    found.append(("round", f"{record['number']}, begun {str(record['started_at'])[:16]} UTC"))
    return [(name, text) for name, text in found if text]


def _recipe(
    steps: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]
) -> tuple[tuple[str, str, str], ...]:
    explained: dict[str, Any] = {}
    for step in steps:
        if str(step["stage"]).partition(".")[0] == "prepare" and step.get("output"):
            explained |= step["output"].get("explained", {})
    if not explained or not chosen:
        return ()
    from loopwright.tune import families_of

    best = chosen["candidates"][0]
    wanted = [f"{family}/{best['window']}" for family in families_of([best["algorithm"]])]
    name = next((each for each in reversed(wanted) if each in explained), next(iter(explained)))
    return tuple((step, ", ".join(columns), why) for step, columns, why in explained[name])


def _intended(problem: Mapping[str, Any], stated: Mapping[str, Any]) -> list[str]:
    told = []
    if problem.get("question"):
        told.append(f"To answer: {problem['question']}")
    if problem.get("action"):
        told.append(f"What is done with the answer: {problem['action'].rstrip('.')}.")
    if stated:
        told.append(
            f"It says {stated['target']} for rows like those it learnt from, one row at a time."
        )
    return told


def _not_intended(problem: Mapping[str, Any]) -> list[str]:
    told = [
        "Decisions other than the one above: it was judged for that one only.",
        "Rows of another kind, place or time than those it learnt from; the monitor says when live "
        "rows begin to differ.",
        "What would happen if a value were changed: reasons say what the model goes by, not what "
        "causes what.",
    ]
    if not (problem.get("constraints") or {}).get("fairness"):
        told.append(
            "Decisions in which groups of people must be treated alike: no fairness limit was "
            "stated, so none was checked."
        )
    return told


def _limits(
    examination: Examination | None,
    explanation: ExplanationReading | None,
    fairness: Sequence[FairnessReading],
    moved: Sequence[str],
) -> list[str]:
    told = []
    if examination is not None:
        weak = [each for each in examination.segments if each.is_worse][:_MOST_SEGMENTS]
        told += [
            f"Weaker where {each.condition} ({each.n_rows:,} of the test rows)." for each in weak
        ]
        told += _weak_columns(examination)
        if examination.interval is not None:
            found = examination.interval
            told.append(
                f"An interval said to hold {found.wanted:.0%} of the truth held "
                f"{found.coverage:.1%} of it on the test rows."
            )
        told += examination.remarks
    if explanation is not None:
        told += explanation.remarks
    for reading in fairness:
        told += reading.remarks
        told += [
            f"{limit.limit} is missed: {limit.reason}."
            for limit in reading.limits
            if not limit.holds
        ]
    if moved:
        told.append("The goalposts were moved; see the record below.")
    return told


def _weak_columns(examination: Examination) -> list[str]:
    """Return what the model cannot do without, in words."""
    missing = [
        each
        for each in examination.robustness
        if each.kind == "missing" and each.loss is not None and each.lower is not None
    ]
    hurt = sorted(
        (each for each in missing if (each.lower or 0.0) > 0), key=lambda each: -(each.loss or 0.0)
    )[:_MOST_WEAK]
    if not hurt:
        return []
    names = ", ".join(each.column for each in hurt)
    return [f"It gets clearly worse without {names}."]


def _told_looks(judged: Mapping[str, Any]) -> str:
    looks = judged.get("looks") or []
    decisions = {(each["loop"], each["decision"]) for each in looks}
    if not looks:
        return ""
    if len(looks) == 1:
        return "The test rows were read once, for this decision."
    told = f"The test rows were read {len(looks)} times, for {len(decisions)} decisions."
    reasons = [f"{each['by']}: {each['reason']}" for each in looks if each.get("reason")]
    return f"{told} Reasons given: {'; '.join(reasons)}." if reasons else told


def _told_seal(seals: Sequence[Mapping[str, Any]]) -> str:
    if not seals:
        return ""
    seal = seals[-1]
    return f"sealed by {seal['name']}, {str(seal['at'])[:16].replace('T', ' ')} UTC"
