from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loopwright.loop.refit_check import Beside, RefitEvidence, refusals


def beside(judged: float, again: float, name: str = "") -> Beside:
    return Beside(name=name, n_rows=300, judged=judged, again=again)


def evidence(**changes: Any) -> RefitEvidence:
    found = RefitEvidence(
        metric="mape",
        higher_is_better=False,
        n_learnt=4_000,
        newest=beside(0.20, 0.15),
        difference=0.8,
        error=1.0,
        spread=5.0,
    )
    return msgspec.structs.replace(found, **changes)


def test_a_fit_that_is_close_to_the_judged_one_and_no_worse_may_stand_for_it() -> None:
    assert refusals(evidence()) == []
    assert refusals(evidence(newest=beside(0.20, 0.2019))) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"newest": beside(0.20, 0.21)}, "on the rows that judged mape went from 0.2 to 0.21"),
        ({"segments": (beside(0.2, 0.22, "coast"),)}, "on 'coast' mape went from 0.2 to 0.22"),
        ({"golden": beside(0.2, 0.21, "golden")}, "on the golden rows mape"),
        ({"difference": 1.1}, "are 1.1 from those of the judged fit, which errs by 1"),
        ({"newest": beside(0.20, float("nan"))}, "from 0.2 to nan"),
        ({"difference": float("inf")}, "are inf from"),
    ],
)
def test_a_fit_that_failed_or_is_another_model_is_refused(
    changes: dict[str, Any], told: str
) -> None:
    (why,) = refusals(evidence(**changes))

    assert told in why


def test_a_metric_that_wants_to_be_high_is_worse_where_it_falls() -> None:
    auc = evidence(higher_is_better=True, newest=beside(0.80, 0.79))

    assert refusals(auc)
    assert not refusals(msgspec.structs.replace(auc, newest=beside(0.80, 0.95)))


def test_where_the_judged_fit_hardly_errs_a_small_difference_is_no_reason() -> None:
    exact = evidence(difference=0.04, error=1e-9)

    assert refusals(exact) == []
    assert refusals(msgspec.structs.replace(exact, difference=0.06))


def test_the_decision_can_be_made_again_from_what_is_on_record() -> None:
    found = evidence(segments=(beside(0.2, 0.3, "coast"),), golden=beside(0.2, 0.1))

    record = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(found)))

    assert refusals(msgspec.convert(record, RefitEvidence)) == refusals(found)
