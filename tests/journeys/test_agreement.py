"""What was agreed holds: constraints, a person's no, one look at the test rows, enough rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import loopwright as lw
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop import StepNews

MakeLoop = Callable[..., lw.Loop]
QUICK: dict[str, Any] = {
    "n_rows": 700,
    "algorithms": "[linear-learner]",
    "mape": 0.4,
    "hyperparameters": "{}",
}
OVERRULED = "the rule is to be beaten all the same"


def quiet(_: StepNews) -> None:
    pass


def run(loop: lw.Loop, **said: Any) -> Any:
    return loop.run(on_news=quiet, overrule=OVERRULED, **said).outcome


def edited(loop: lw.Loop, old: str, new: str) -> None:
    text = loop.read.path.read_text()
    assert old in text
    loop.read.path.write_text(text.replace(old, new))


def test_a_rejected_model_never_goes_live_and_is_not_asked_for_again(make_loop: MakeLoop) -> None:
    loop = make_loop(**QUICK, approve="manual")
    assert run(loop).state == "waiting for approval"

    said = loop.reject(reason="it undervalues houses at the water", name="Bo Chen")
    after = run(loop)

    assert after.state == "rejected"
    assert after.exit_code == 3
    assert after.n_steps == 0
    assert "Bo Chen rejected it" in after.message
    assert "at the water" in after.message
    assert after.status.approval["bundle"] == said["bundle"]
    # the same model comes out of a new round: nobody is asked, nor may the policy let it through
    edited(loop, "approve: manual", "approve: auto")
    edited(loop, "question: What will it sell for?", "question: How much?")
    again = run(loop)
    assert again.state == "rejected"
    assert again.status.endpoint is None
    assert again.status.champion is None
    # the words changed, and nothing that the test rows were asked
    assert len({look["decision"] for look in again.status.looks}) == 1
    # who changes their mind says so
    loop.approve(reason="the water is a year away")
    assert run(loop).state == "live"


def test_constraints_are_measured_on_the_packed_model_before_it_goes_live(
    make_loop: MakeLoop,
) -> None:
    loop = make_loop(**QUICK)
    edited(loop, "  criteria:", "  constraints: {latency_ms: 500, size_mb: 0.001}\n  criteria:")

    missed = run(loop)
    edited(loop, "size_mb: 0.001", "size_mb: 50, explainable: true")
    kept = run(loop)

    assert missed.state == "criterion missed"
    assert missed.status.endpoint is None
    assert "size at most 0.001 MB" in missed.message
    assert kept.state == "live"
    step = next(step for step in kept.status.steps if step["stage"] == "constrain")
    verdicts = step["output"]["verdicts"]
    assert [verdict["holds"] for verdict in verdicts] == [True, True, True]
    assert 0 < verdicts[1]["value"] < 500
    assert [move["after"] for move in kept.status.goalposts] == [
        [
            "constraints 99 of 100 answers within 500 ms; at most 50 MB; a model that a person can read"
        ]
    ]
    # what was asked changed, so the same rows judged twice, and the reader is told
    assert len({look["decision"] for look in kept.status.looks}) == 2
    assert "used for 2 decisions" in kept.message


def test_algorithms_that_nobody_can_read_are_refused_before_training(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=700, algorithms="[linear-learner, lightgbm]")
    edited(loop, "  criteria:", "  constraints: {explainable: true}\n  criteria:")

    with pytest.raises(InvalidInputError, match=r"line \d+: train.algorithms has 'lightgbm'"):
        run(loop)
    assert not (loop.settings.home / "artifacts").exists()


def test_test_rows_that_may_judge_once_need_a_reason_to_judge_again(make_loop: MakeLoop) -> None:
    loop = make_loop(**QUICK)
    edited(loop, "  criteria:", "  test_rows: once\n  criteria:")
    assert run(loop).state == "live"
    edited(loop, "at_most: 0.4", "at_most: 0.39")

    with pytest.raises(WrongStateError, match=r"judged 1 decision\(s\) already"):
        run(loop)
    steps = [step["stage"] for step in loop.status().value.steps]
    outcome = run(loop, again="the board agreed on a stricter limit")

    assert "train" not in steps
    assert outcome.state == "live"
    assert "the board agreed on a stricter limit" in outcome.message
    assert run(loop).n_steps == 0


def test_a_criterion_that_the_test_rows_could_never_show_is_refused_before_training(
    make_loop: MakeLoop,
) -> None:
    loop = make_loop(n_rows=700)
    edited(
        loop,
        "- {metric: mape, at_most: 0.24}",
        "- {metric: share_within_50_percent, at_least: 0.99}",
    )

    # all of 70 right show 0.958; 0.99 takes 299 test rows, a tenth of 2,990
    with pytest.raises(InvalidInputError, match=r"line 6: .*cannot be shown on 70 rows") as caught:
        run(loop)

    assert "299 test rows: bring about 2,990 rows" in caught.value.hint
    assert loop.jobs() == []
