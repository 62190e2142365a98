"""The page of a whole loop, from records like those a real run on house prices left."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop import LoopStatus, Workspace, last_decision, loop_page
from loopwright.store import MemoryArtifactStore, MemoryMetadataStore

ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
VOID = {"meta", "br"}
AT = "2026-11-22T12:16:10.674406+00:00"


class Page(HTMLParser):
    """Collects the elements of a page and fails when they are not nested rightly."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data

    @property
    def first_screen(self) -> str:
        """The words before the steps of the round."""
        return self.words.partition("step by step")[0]


def figure(metric: str, value: float, lower: float, upper: float) -> dict[str, Any]:
    about = {"metric": metric, "value": value, "lower": lower, "upper": upper}
    return {**about, "n_rows": 1685, "confidence": 0.95}


def figures(mape: float, within: float) -> dict[str, Any]:
    return {
        "mape": figure("mape", mape, mape - 0.005, mape + 0.005),
        "share_within_5_percent": figure(
            "share_within_5_percent", within, within - 0.02, within + 0.02
        ),
    }


def step(stage: str, place: int, output: dict[str, Any], **more: Any) -> dict[str, Any]:
    done = {"state": "done", "stage": stage, "place": place, "round": 1, "wall_s": 0.25}
    told = {"summary": f"{stage} went well", "reason": f"{stage} had a reason"}
    return {**done, **told, "started_at": AT, "ended_at": AT, "output": output, **more}


def candidate(algorithm: str, attempt: int, mape: float) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "window": "all",
        "attempt": attempt,
        "fit_s": 1.9,
        "meets": mape < 0.14,
        "missed": [],
        "figures": figures(mape, 0.34),
    }


def seal(*criteria: str) -> dict[str, Any]:
    return {"digest": "sha256:c15f", "name": "ada", "at": AT, "criteria": list(criteria)}


def entrant(name: str, how: str, mape: float) -> dict[str, Any]:
    shown = figures(mape, 0.1)
    return {"name": name, "how": how, "figures": shown, "meets_criteria": False}


TRIED = {"jobs": [{"algorithm": "knn", "members": {}}], "idea": "defaults", "hypothesis": "it may"}
STEPS = (
    step(
        "problem",
        1,
        {
            "target": "price",
            "today": {"does": "a valuer visits", "cost_per_case": 180.0, "column": None},
        },
    ),
    step("data", 2, {"n_rows": {"train": 11_793}}),
    step("explore", 3, {"n_findings": 23}),
    step(
        "decide",
        4,
        {
            "decision": "ml_worth_it",
            "reason": "The columns tell the target.",
            "entrants": [
                entrant("constant", "one answer for all", 0.38),
                entrant("rule", "at most 3 conditions", 0.27),
            ],
            "rule": {
                "python": "def answer(row):\n    return 293436.0",
                "sql": "CASE",
                "n_conditions": 3,
            },
        },
    ),
    step(
        "prepare",
        5,
        {
            "explained": {"tree/all": [["drop", ["id"], "an identifier"]]},
            "target_transform": "log",
            "target_transform_reason": "a long tail",
        },
    ),
    step("train", 6, TRIED, wall_s=7.5),
    step(
        "choose",
        7,
        {
            "candidates": [candidate("xgboost", 1, 0.115), candidate("knn", 1, 0.18)],
            "conclusion": "the best of the algorithms tried",
        },
    ),
    step(
        "evaluate",
        8,
        {
            "promoted": True,
            "conclusion": "It holds.",
            "verdicts": [],
            "figures": figures(0.1152, 0.3401),
            "comparison": None,
            "n_rows": 1685,
        },
    ),
    step("pack", 9, {"version": "de441dae3f10"}),
    step("deploy", 10, {"url": "http://127.0.0.1:44275"}),
)
REPORT: dict[str, Any] = {
    "version": "de441dae3f10",
    "from_at": AT,
    "to_at": AT,
    "n_predictions": 2_000,
    "n_labelled": 1_500,
    "n_new_predictions": 0,
    "n_new_labelled": 0,
    "n_windows": 8,
    "drift": [],
    "alarms": [],
    "new_alarms": [],
    "figures": [
        {
            "metric": "mape",
            "n": 1_500,
            "estimate": 0.12,
            "lower": 0.11,
            "upper": 0.13,
            "target": 0.15,
            "direction": "at_most",
            "verdict": "holds",
            "confidence": 0.975,
            "period": "since deployment",
        }
    ],
    "findings": [],
    "verdict": "ok",
    "reason": "No alarm, and no criterion is missed.",
    "action": "Nothing to do.",
    "format": 1,
}
ROUND = {
    "loop": "house-prices",
    "number": 1,
    "state": "live",
    "cause": "first run",
    "reason": "the loop has not run before",
    "conclusion": "mape holds.",
    "live": None,
    "overruled": "",
    "started_at": AT,
    "ended_at": AT,
}
HISTORY = [
    {"at": AT, "what": "round begun", "round": 1, "cause": "first run", "reason": "never ran"},
    {"at": AT, "what": "step started", "round": 1, "stage": "problem"},
    {"at": AT, "what": "champion", "round": 1, "version": "de441dae3f10"},
]


@pytest.fixture
def live() -> LoopStatus:
    return LoopStatus(
        name="house-prices",
        file="loop.yaml",
        question="What price can we quote?",
        round=ROUND,
        rounds=(ROUND,),
        steps=STEPS,
        champion={
            "round": 1,
            "version": "de441dae3f10",
            "algorithm": "xgboost",
            "figures": figures(0.1152, 0.3401),
            "since": AT,
            "before": None,
        },
        endpoint={
            "name": "house-prices",
            "alive": True,
            "url": "http://127.0.0.1:44275",
            "version": "de441dae3f10",
        },
        monitor=REPORT,
        seals=(seal("mape at most 0.15", "share_within_5_percent at least 0.3"),),
    )


@pytest.fixture
def missed(live: LoopStatus) -> LoopStatus:
    judged = {**STEPS[7]["output"], "promoted": False, "figures": figures(0.21, 0.18)}
    ended = {**ROUND, "state": "criterion missed", "conclusion": "mape is missed."}
    return replace(
        live,
        round=ended,
        rounds=(ended,),
        steps=(*STEPS[:7], {**STEPS[7], "output": judged}),
        champion=None,
        endpoint=None,
        monitor=None,
    )


@pytest.fixture
def new() -> LoopStatus:
    return LoopStatus(
        name="house-prices",
        file="loop.yaml",
        question="",
        round=None,
        rounds=(),
        steps=(),
        champion=None,
        endpoint=None,
        monitor=None,
        seals=(),
    )


def test_the_first_screen_answers_what_a_stakeholder_asks(live: LoopStatus) -> None:
    screen = Page(loop_page(live, HISTORY)).first_screen

    for words in (
        "What price can we quote?",
        "The model is live and meets what was agreed",
        "a valuer visits, 180 a case",
        "Average error, in percent at most 15%",
        "sealed by ada, 2026-11-22 12:16 UTC",
        "http://127.0.0.1:44275",
        "xgboost, from round 1",
        "11.5% likely 11% to 12%",
        "All is well",
        "1,500 with ground truth (75%)",
    ):
        assert words in screen
    assert "goalposts" not in screen


def test_below_stands_how_it_got_there(live: LoopStatus) -> None:
    page = Page(loop_page(live, HISTORY))

    for words in (
        "train had a reason",
        "one answer for all",
        "def answer(row):",
        "Hypothesis: it may",
        "the best of the algorithms tried",
        "an identifier",
        "a long tail",
        "the loop has not run before",
        "2 events",
    ):
        assert words in page.words


def test_a_loop_that_has_not_run_says_how_to_run_it(new: LoopStatus) -> None:
    page = Page(loop_page(new, []))

    assert "It has not run yet" in page.words
    assert "loopwright run loop.yaml" in page.words
    assert "No model has gone live." in page.words


def test_a_missed_criterion_is_the_headline_and_shows_by_how_much(missed: LoopStatus) -> None:
    screen = Page(loop_page(missed, [])).first_screen

    assert "No model is good enough yet" in screen
    assert "did not go live" in screen
    assert "21% likely 20.5% to 21.5%" in screen


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        (
            {"endpoint": {"name": "e", "alive": False, "url": None, "version": "1"}},
            "does not answer",
        ),
        ({"monitor": {**REPORT, "verdict": "drift"}}, "is live, but needs attention"),
        ({"monitor": {**REPORT, "verdict": "watch"}}, "The data has changed, without harm so far"),
        ({"endpoint": None, "monitor": None}, "The model is ready and meets what was agreed"),
        ({"seals": (seal(),)}, "nothing was agreed"),
        ({"seals": (seal("mape at most 0.12"),)}, "with a criterion missed"),
        ({"round": {**ROUND, "state": "waiting for approval"}}, "waits for your approval"),
        ({"round": {**ROUND, "state": "open"}}, "A round is under way"),
        ({"round": {**ROUND, "state": "not ml"}}, "These columns do not tell the answer"),
    ],
)
def test_the_headline_is_the_most_pressing_truth(
    live: LoopStatus, changes: dict[str, Any], title: str
) -> None:
    screen = Page(loop_page(replace(live, **changes), HISTORY)).first_screen

    assert title in screen
    assert "is live and meets" not in screen


def test_a_failed_step_and_one_under_way_are_named(live: LoopStatus) -> None:
    failed = {"stage": "train", "round": 1, "state": "failed", "reason": "All 4 jobs failed."}
    running = {"stage": "explore", "round": 1, "state": "running", "place": 3, "started_at": AT}
    halted = replace(live, round={**ROUND, "state": "open"}, champion=None, monitor=None)

    stopped = Page(loop_page(replace(halted, steps=(*STEPS[:3], failed)), HISTORY))
    under_way = Page(loop_page(replace(halted, steps=(*STEPS[:2], running)), HISTORY))

    assert "It stopped at the step “train”" in stopped.first_screen
    assert "All 4 jobs failed." in stopped.first_screen
    assert "A round is under way" in under_way.first_screen


def test_moved_goalposts_are_plain_to_see(live: LoopStatus) -> None:
    seals = (seal("mape at most 0.1"), seal("mape at most 0.12"), seal("mape at most 0.15"))

    screen = Page(loop_page(replace(live, seals=seals), [])).first_screen

    assert "goalposts moved 2 times" in screen
    assert "before: mape at most 0.1 (ada" in screen
    assert "before: mape at most 0.12 (ada" in screen


def test_a_round_that_did_not_ask_again_shows_the_earlier_answer(live: LoopStatus) -> None:
    second = {**ROUND, "number": 2}
    steps = tuple({**each, "round": 2} for each in STEPS if each["stage"] != "decide")

    page = Page(
        loop_page(
            replace(live, round=second, rounds=(ROUND, second), steps=steps),
            HISTORY,
            decision=STEPS[3],
        )
    )

    assert "one answer for all" in page.words
    assert "(asked in round 1)" in page.words


def test_a_challenger_is_shown_beside_the_model_before_it(live: LoopStatus) -> None:
    comparison = {
        "metric": "mape",
        "champion": 0.233,
        "challenger": 0.1186,
        "gain": 0.1144,
        "probability_better": 0.998,
    }
    judged = {**STEPS[7], "output": {**STEPS[7]["output"], "comparison": comparison}}

    screen = Page(loop_page(replace(live, steps=(*STEPS[:7], judged)), [])).first_screen

    assert "before 23.3% → now 11.9%" in screen
    assert "better with probability 99.8%" in screen


def test_the_page_needs_no_network_and_runs_no_script(live: LoopStatus) -> None:
    text = loop_page(live, HISTORY)

    page = Page(text)
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    # the endpoint's address is text, never a resource
    assert not re.search(r"https?:|url\(|@import|src=", text.replace("http://127.0.0.1", ""))
    assert "prefers-color-scheme: dark" in text


def attacked(value: Any, kept: str = "") -> Any:
    """Return a record with an attack for every text that the page may show freely."""
    fixed = {"state", "stage", "at", "started_at", "ended_at", "what", "verdict", "direction"}
    fixed |= {"decision", "metric", "from_at", "to_at", "since", "algorithm", "window", "period"}
    if isinstance(value, dict):
        return {key: attacked(each, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(attacked(each, kept) for each in value)
    return ATTACK if isinstance(value, str) and kept not in fixed else value


def test_nothing_from_the_records_becomes_markup(live: LoopStatus) -> None:
    record = attacked({name: getattr(live, name) for name in LoopStatus.__slots__})
    seals = (*record["seals"], seal(ATTACK, "mape at most 0.15"))
    status = LoopStatus(**{**record, "seals": seals})

    page = Page(loop_page(status, attacked(HISTORY)))

    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(ATTACK) >= 40


def test_the_last_decision_is_the_newest_that_ended(tmp_path: Path) -> None:
    clock = FixedClock()
    workspace = Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=MemoryArtifactStore(tmp_path / "artifacts"),
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ada",
    )
    none_yet = last_decision(workspace, "houses")
    for number in (1, 2, 3):
        workspace.metadata.put("round", f"houses/{number:06d}", {"number": number})
    workspace.metadata.put("step", "houses/000001/decide", {"round": 1, "output": {"a": 1}})
    workspace.metadata.put("step", "houses/000002/decide", {"round": 2, "output": {"a": 2}})
    workspace.metadata.put("step", "houses/000003/decide", {"round": 3, "state": "running"})

    found = last_decision(workspace, "houses")

    assert none_yet is None
    assert found is not None
    assert found["round"] == 2


def test_what_was_moved_who_agreed_and_how_often_test_rows_judged_is_shown(
    live: LoopStatus,
) -> None:
    sealed = {
        **seal("mape at most 0.2"),
        "people": ["Bo Chen (head of sales)"],
        "terms": {"constraints": "99 of 100 answers within 20 ms"},
    }
    move = {"told": "2026-11-22 12:16 by ada: mape at most 0.15 became mape at most 0.2"}
    look = {"loop": "house-prices", "round": 1, "candidate": "m", "at": AT, "by": "ada"}
    status = replace(
        live,
        seals=(seal("mape at most 0.15"), sealed),
        goalposts=(move,),
        looks=(
            {**look, "decision": "d1", "reason": ""},
            {**look, "decision": "d2", "reason": "the board agreed <again>"},
        ),
    )

    page = loop_page(status, HISTORY)

    assert "agreed by Bo Chen (head of sales)" in page
    assert "99 of 100 answers within 20 ms" in page
    assert "mape at most 0.15 became mape at most 0.2" in page
    assert "These test rows were used for 2 decisions" in page
    assert "the board agreed &lt;again&gt;" in page
