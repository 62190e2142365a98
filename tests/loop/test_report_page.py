"""The model report: read from records, shown so that a person with no statistics can decide."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.evaluate.dependence import DependencePoint, DependenceReading
from loopwright.evaluate.examination import (
    CalibrationReading,
    Confusion,
    Examination,
    GainPoint,
    IntervalReading,
    LearningCurve,
    LearningPoint,
    Reading,
    Reliability,
    ReliabilityBin,
    ResidualBin,
    ResidualReading,
    RobustnessReading,
    Sampling,
    SegmentReading,
    ThresholdCurve,
    ThresholdPoint,
    WorstRow,
)
from loopwright.evaluate.explanation import (
    ColumnInfluence,
    ExplainedRow,
    ExplanationReading,
    Reason,
)
from loopwright.evaluate.fairness import (
    FairnessReading,
    GroupFigure,
    GroupReading,
    LimitReading,
)
from loopwright.loop import Workspace, loop_status
from loopwright.loop.headline import headline
from loopwright.loop.model_report import ModelReport, _money, model_report
from loopwright.loop.report_chart import learning
from loopwright.loop.report_page import keep_report, report_page, told_unit
from loopwright.store import MemoryArtifactStore, MemoryMetadataStore

AT = "2026-11-22T12:16:10.674406+00:00"
ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
VOID = {"meta", "br"}


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
        """The words before the names of the sections, without the white space between them."""
        return " ".join(self.words.partition("How good")[0].split())


def influence(column: str, share: float) -> ColumnInfluence:
    return ColumnInfluence(column=column, mean=share / 4, share=share, direction="up")


def explanation(column: str = "tenure") -> ExplanationReading:
    points = tuple(
        DependencePoint(value=str(at), at=float(at), mean=at / 9, low=at / 10, high=at / 8)
        for at in range(4)
    )
    levels = tuple(
        DependencePoint(value=name, at=None, mean=0.3, low=0.1, high=0.6) for name in ("a", "b")
    )
    shared: Any = {"of": "probability of Yes", "curves": ((0.1, 0.2, 0.3, 0.4),), "n_rows": 40}
    return ExplanationReading(
        of="probability of Yes",
        is_share=True,
        base=0.2,
        columns=(influence(column, 0.7), influence("contract", 0.3)),
        n_columns=5,
        examples=(
            ExplainedRow(
                title="a high answer",
                answer=0.65,
                reasons=(
                    Reason(column=column, value="1", adds=0.5, told=f"{column} 1 adds 50 points"),
                    Reason(column="contract", value="x", adds=-0.1, told="contract x takes 10 off"),
                ),
                others=0.05,
            ),
        ),
        dependence=(
            DependenceReading(
                column=column, points=points, course="rises", share_against=0.0, **shared
            ),
            DependenceReading(
                column="contract", points=levels, course="none", share_against=0.0, **shared
            ),
        ),
        is_exact=True,
        error=0.0,
        largest_gap=0.0,
        n_rows=300,
        remarks=("Explained on 300 of 1,408 test rows, drawn at random.",),
    )


def reliability() -> Reliability:
    bins = (ReliabilityBin(said=0.2, happened=0.25, lower=0.2, upper=0.3, n_rows=500),)
    rest: Any = dict.fromkeys(
        ("ece", "ece_raw", "ece_lower", "ece_upper", "brier", "reliability", "resolution"), 0.01
    )
    return Reliability(bins=bins, uncertainty=0.2, log_loss=0.4, **rest)


def examination(name: str = "contract is 'x'") -> Examination:
    point = ThresholdPoint(
        threshold=0.1,
        share_said=0.6,
        precision=0.4,
        precision_lower=0.3,
        precision_upper=0.5,
        recall=0.9,
        recall_lower=0.8,
        recall_upper=0.95,
        profit=20.0,
        profit_lower=15.0,
        profit_upper=25.0,
    )
    segment = SegmentReading(
        name=name,
        condition=name,
        named=False,
        n_rows=300,
        share=0.2,
        metric="roc_auc",
        value=0.7,
        lower=0.65,
        upper=0.75,
        difference=-0.1,
        is_worse=True,
        q_value=0.01,
    )
    return Examination(
        task="binary",
        target="Churn",
        classes=("No", "Yes"),
        n_rows=1_408,
        confidence=0.95,
        seed=0,
        main_metric="roc_auc",
        sampling=Sampling(n_units=1_408),
        figures=tuple(
            Reading(
                metric=metric,
                title=metric,
                value=0.5,
                lower=0.4,
                upper=0.6,
                n_rows=1_408,
                higher_is_better=True,
                unit="share",
            )
            for metric in ("roc_auc", *(f"figure_{k}" for k in range(9)))
        ),
        confusion=Confusion(classes=("No", "Yes"), counts=((331, 704), (8, 365))),
        threshold=ThresholdCurve(
            chosen=0.1,
            by="payoff",
            reason="most is earned from 0.1 on",
            points=(
                point,
                msgspec.convert(
                    {**msgspec.to_builtins(point), "threshold": 0.9, "profit": -5.0}, ThresholdPoint
                ),
            ),
        ),
        gains=tuple(
            GainPoint(share=s, captured=c, captured_lower=c, captured_upper=c, lift=c / s)
            for s, c in ((0.1, 0.3), (1.0, 1.0))
        ),
        calibration=CalibrationReading(
            method="platt", reason="it was too sure", before=reliability(), after=reliability()
        ),
        residuals=ResidualReading(
            bins=(ResidualBin(low=-1, high=0, n_rows=3), ResidualBin(low=0, high=1, n_rows=4)),
            levels=(),
            quantiles=(),
            bias=0.0,
            bias_lower=-0.1,
            bias_upper=0.1,
            share_too_high=0.5,
        ),
        interval=IntervalReading(
            wanted=0.9,
            coverage=0.898,
            coverage_lower=0.88,
            coverage_upper=0.91,
            median_width=12_345.0,
            median_relative_width=0.2,
            scale="none",
            levels=(),
        ),
        segments=(segment,),
        n_segments_looked_at=1_297,
        worst_rows=(WorstRow(row=1, said="No", true="Yes", loss=3.0, cells=(("tenure", "1"),)),),
        robustness=(
            RobustnessReading(column="tenure", kind="missing", loss=0.1, lower=0.05, upper=0.2),
            RobustnessReading(
                column="age", kind="missing", loss=None, lower=None, upper=None, refused=True
            ),
        ),
        n_robustness_rows=350,
        learning=(
            LearningCurve(
                by="rows",
                metric="roc_auc",
                points=tuple(
                    LearningPoint(at=at, train=0.9, validation=0.8) for at in (100, 1_000)
                ),
            ),
        ),
        remarks=("Columns were made to go wrong on 350 of the 1,408 rows.",),
    )


def fair(column: str = "gender") -> FairnessReading:
    figure = GroupFigure(metric="selection_rate", value=0.4, lower=0.35, upper=0.45)
    groups = tuple(
        GroupReading(name=name, n_rows=n, share=0.5, is_judged=n >= 30, figures=(figure,))
        for name, n in (("f", 700), ("m", 700), ("x", 8))
    )
    limit = LimitReading(
        limit=f"selection_rate by {column}: gap at most 0.15",
        column=column,
        metric="selection_rate",
        gap=0.01,
        gap_upper=0.06,
        at_most_gap=0.15,
        ratio=0.98,
        ratio_lower=0.9,
        at_least_ratio=None,
        high="m",
        low="f",
        holds=True,
    )
    return FairnessReading(
        column=column,
        groups=groups,
        limits=(limit,),
        confidence=0.95,
        remarks=("Fewer than 30 rows, so no limit can be held against: x.",),
    )


PROBLEM: dict[str, Any] = {
    "target": "Churn",
    "question": "Who should get the offer?",
    "action": "A call with a discount",
    "today": {"does": "a letter to all", "cost_per_case": 4.0},
    "payoff": {"true_positive": 160},
    "criteria": [
        {"metric": "roc_auc", "at_least": 0.82},
        {"metric": "profit_per_case", "at_least": 30.0},
    ],
    "confidence": 0.95,
    "people": [{"name": "Ana Ruiz", "role": "head of retention"}, "Bo"],
}
SEALS = [
    {"digest": "sha256:a", "name": "ada", "at": AT, "criteria": ["roc_auc at least 0.9"]},
    {
        "digest": "sha256:b",
        "name": "ada",
        "at": AT,
        "criteria": ["roc_auc at least 0.82", "profit_per_case at least 30"],
    },
]


def verdict(metric: str, target: float, value: float, lower: float) -> dict[str, Any]:
    return {
        "criterion": f"{metric} at least {target:g}",
        "metric": metric,
        "value": value,
        "lower": lower,
        "upper": value + 1,
        "bound": lower,
        "target": target,
        "holds": lower >= target,
        "n_rows": 1_408,
        "confidence": 0.95,
    }


def step(stage: str, place: int, output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": "done", "stage": stage, "place": place, "output": output, **more}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    unused: Any = None
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock=FixedClock()),
        artifacts=MemoryArtifactStore(tmp_path / "artifacts"),
        compute=unused,
        clock=FixedClock(),
        user="ada",
    )


def recorded(workspace: Workspace, *, state: str = "waiting for approval", text: str = "") -> None:
    """Put a round with all its steps on record; `text` takes the place of every name."""
    put = workspace.metadata.put
    verdicts = [verdict("roc_auc", 0.82, 0.85, 0.83), verdict("profit_per_case", 30, 29.2, 25.5)]
    kept = {
        name: workspace.artifacts.put_bytes(msgspec.json.encode(value))
        for name, value in (
            ("examination", examination(text or "contract is 'x'")),
            ("explanation", explanation(text or "tenure")),
        )
    }
    problem = {**PROBLEM, "question": text or PROBLEM["question"]}
    put("loop", "churn", {"file": "churn.yaml", "question": problem["question"], "endpoint": None})
    put("seal", "churn", {"seals": SEALS})
    put(
        "round",
        "churn/000001",
        {
            "loop": "churn",
            "number": 1,
            "state": state,
            "cause": "first run",
            "reason": "it has not run",
            "conclusion": text or "profit_per_case is missed.",
            "spec": {"problem": problem},
            "started_at": AT,
            "ended_at": None,
        },
    )
    looks = [{"loop": "churn", "decision": "d", "candidate": "c", "by": "ada", "reason": ""}]
    steps = [
        step("problem", 1, {"target": "Churn", "task": "binary", "seals": SEALS}),
        step(
            "data",
            2,
            {"snapshot": {}, "test": "sha256:t"},
            summary="7,043 rows",
            reason="split by random",
        ),
        step("explore", 3, {"summary": ["21 columns", text or "customerID names rows"]}),
        step("decide", 4, {"decision": "ml_worth_it", "reason": text or "The columns tell it."}),
        step("prepare", 5, {"explained": {"tree/all": [["drop", ["id"], text or "it names"]]}}),
        step("choose", 6, {"candidates": [{"algorithm": "lightgbm", "window": "all"}]}),
        step(
            "evaluate",
            7,
            {
                "promoted": True,
                "verdicts": verdicts,
                "figures": {each["metric"]: each for each in verdicts},
                "comparison": None,
                "n_rows": 1_408,
                "looks": looks,
                "fairness": [fair(text or "gender").to_json()],
            },
        ),
        step("examine", 8, {"examination": kept["examination"]}),
        step("explain", 9, {"explanation": kept["explanation"]}),
        step("pack", 10, {"version": "de441dae3f10", "n_bytes": 8_192}),
    ]
    for each in steps:
        put("step", f"churn/000001/{each['stage']}", {"round": 1, **each})


def report(workspace: Workspace, **changes: Any) -> ModelReport:
    recorded(workspace, **changes)
    return model_report(workspace, "churn")


def test_the_first_screen_answers_what_a_stakeholder_asks(workspace: Workspace) -> None:
    screen = Page(report_page(report(workspace))).first_screen

    for words in (
        "Who should get the offer?",
        "A model waits for your approval",
        "2 of 3 hold",
        "✓Pairs of cases put in the right order: at least 0.820.85Beyond doubt at least 0.83",
        "✗Profit per case: at least 3029.2",
        "✓Fair by gender, chosen: groups differ by at most 15 points1 points",
        "Earns 29,200 for every 1,000 cases, beyond doubt at least 25,500.",
        "Today's way costs 4,000 for every 1,000 cases.",
        "Nobody has decided yet.",
        "Ana Ruiz (head of retention), Bo",
        "A call with a discount",
        "The goalposts were moved once",
    ):
        assert words in screen


def test_below_stands_all_that_is_known(workspace: Workspace) -> None:
    words = " ".join(Page(report_page(report(workspace))).words.split())

    for told in (
        "3 more figures",
        "What is earned per case",
        "Most is earned from 0.1 on.",
        "exact Shapley values",
        "3 more columns move it less, or not at all.",
        "+50 points",
        "−10 points",
        "Rises with it for every row.",
        "1,297 looked at",
        "It was too sure.",
        "89.8%",
        "the endpoint refuses such rows",
        "Fewer than 30 rows",
        "customerID names rows",
        "It gets clearly worse without tenure.",
        "Weaker where contract is 'x' (300 of the test rows).",
        "no fairness limit was stated",
        "The test rows were read once, for this decision.",
        "roc_auc at least 0.9 became",
        "lightgbm",
        "de441dae3f10",
    ):
        assert told in words


def test_links_lead_to_what_is_on_the_page_and_nothing_comes_from_outside(
    workspace: Workspace,
) -> None:
    text = report_page(report(workspace))
    page = Page(text)

    targets = [value for name, value in page.attributes if name == "href" and value]
    ids = {value for name, value in page.attributes if name == "id"}
    assert targets
    assert {target.removeprefix("#") for target in targets} <= ids
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://", text)


def test_what_comes_from_outside_is_escaped(workspace: Workspace) -> None:
    page = Page(report_page(report(workspace, text=ATTACK)))

    assert not {"script", "img"} & set(page.tags)
    assert page.words.count(ATTACK) >= 8
    assert all(not name.startswith("on") for name, _ in page.attributes)


def test_who_approved_is_told_with_the_reason(workspace: Workspace) -> None:
    recorded(workspace, state="rejected")
    said = {"by": "Ana", "at": AT, "reason": "too dear", "decision": "rejected"}
    workspace.metadata.put("approval", "churn/000001", said)

    found = model_report(workspace, "churn")

    assert (found.release.state, found.release.tone) == ("rejected", "bad")
    assert "Rejected by Ana, 2026-11-22 12:16 UTC: too dear" in " ".join(
        Page(report_page(found)).words.split()
    )


def test_a_round_without_a_model_shows_the_verdict_and_the_rule(workspace: Workspace) -> None:
    recorded(workspace, state="rule enough")
    for stage in ("choose", "evaluate", "examine", "explain", "pack", "prepare"):
        workspace.metadata.delete("step", f"churn/000001/{stage}")
    rule = {"words": "When x: say Yes.", "python": "def answer(row): ...", "sql": "CASE"}
    decided = {"decision": "rule_enough", "reason": "A rule is enough.", "evidence": ["It holds."]}
    workspace.metadata.put(
        "step", "churn/000001/decide", {"round": 1, **step("decide", 4, {**decided, "rule": rule})}
    )

    found = model_report(workspace, "churn")

    page = Page(report_page(found))
    assert found.examination is None
    assert [each.holds for each in found.criteria] == [None, None]
    for words in ("No model is needed", "A rule is enough.", "It holds.", "When x: say Yes."):
        assert words in page.words


def test_nothing_on_record_is_an_error_with_what_to_do(workspace: Workspace) -> None:
    workspace.metadata.put("loop", "new", {"file": "new.yaml", "question": "?", "endpoint": None})

    with pytest.raises(WrongStateError, match="has not run yet"):
        model_report(workspace, "new")
    recorded(workspace)
    with pytest.raises(NotFoundError, match="no round 7"):
        model_report(workspace, "churn", number=7)


def test_the_page_is_kept_and_the_status_names_it(workspace: Workspace) -> None:
    recorded(workspace)

    digest = keep_report(workspace, "churn")

    assert loop_status(workspace, "churn").report == digest
    assert "Who should get the offer?" in workspace.artifacts.get_bytes(digest).decode()


def test_a_report_is_json_as_well(workspace: Workspace) -> None:
    found = report(workspace).to_json()

    assert found["criteria"][1]["holds"] is False
    assert found["explanation"]["columns"][0]["column"] == "tenure"
    assert found["fairness"][0]["limits"][0]["holds"] is True


def test_a_report_without_money_or_criteria_says_so(workspace: Workspace) -> None:
    found = replace(report(workspace), criteria=(), money=(), today="")

    words = Page(report_page(found)).words

    assert "nobody can say whether it is good enough" in words
    assert "In money" not in words


def test_what_a_model_earns_is_told_where_no_criterion_asks_for_it() -> None:
    earned = Reading(
        metric="profit_per_case",
        title="What a case earns",
        value=19.5,
        lower=17.0,
        upper=22.0,
        n_rows=700,
        higher_is_better=True,
    )
    seen = replace(examination(), figures=(earned,))
    beside = {"metric": "profit_per_case", "gain": 2.5, "lower": 2.0, "upper": 3.0}

    told = _money({"figures": {}}, {}, {"payoff": {}}, seen, {"advantage": beside})

    assert told[0] == "Earns 19,500 for every 1,000 cases, beyond doubt at least 17,000"
    assert "+2,500 (+2,000 to +3,000) for every 1,000 cases" in told[1]


def test_a_learning_curve_of_new_rows_only_shows_no_other_line() -> None:
    points = tuple(
        LearningPoint(at=at, train=None, validation=0.7, lower=0.6, upper=0.8) for at in (100, 200)
    )

    picture = learning(LearningCurve(by="rows", metric="recall", points=points))

    assert picture is not None
    assert [stroke.look for stroke in picture.lines] == ["main"]
    assert [stroke.look for stroke in picture.areas] == ["band"]
    assert len(picture.keys) == 1


def test_one_answer_for_all_is_no_rule_to_be_read(workspace: Workspace) -> None:
    found = headline(
        replace(loop_status(workspace, report(workspace).loop), round={"state": "rule enough"}),
        [{"stage": "decide", "output": {"decision": "rule_enough", "way": "constant"}}],
        None,
    )

    assert found.title == "One answer for all meets what was agreed"
    assert "a criterion is missing" in found.action


def test_values_are_told_in_their_unit() -> None:
    assert [told_unit(0.123, "share"), told_unit(-1_234.5, "money"), told_unit(None, "number")] == [
        "12.3%",
        "-1,234",
        "–",
    ]
