"""What comes of an estimate when the labels are there, and when it loses and regains its say."""

from __future__ import annotations

from loopwright.monitor.estimate_check import EstimateCheck, checked_estimate, standing_after


def made_check(
    *, estimated: float, realised: float, error: float = 0.005, n_rows: int = 1_000, look: int = 1
) -> EstimateCheck:
    return checked_estimate(
        "accuracy",
        estimated=estimated,
        estimated_error=error,
        realised=realised,
        realised_error=error,
        n_rows=n_rows,
        best=1.0,
        look=look,
    )


def test_an_estimate_near_the_truth_holds() -> None:
    check = made_check(estimated=0.80, realised=0.81)

    assert check.verdict == "held"
    assert "turned out to be 0.81 on 1,000 rows" in check.message


def test_an_estimate_far_from_the_truth_is_wrong_either_way() -> None:
    too_good, too_bad = (made_check(estimated=0.80, realised=realised) for realised in (0.60, 0.95))

    assert too_good.verdict == too_bad.verdict == "wrong"


def test_a_few_or_noisy_rows_decide_nothing() -> None:
    few = made_check(estimated=0.80, realised=0.60, n_rows=99)
    noisy = made_check(estimated=0.80, realised=0.70, error=0.08)

    assert few.verdict == noisy.verdict == "undecided"


def test_a_later_check_needs_more_to_call_an_estimate_wrong() -> None:
    # 0.067 apart, 0.04 tolerated, an error of 0.0113: 2.4 standard errors beyond what is tolerated
    verdicts = [
        made_check(estimated=0.80, realised=0.733, error=0.008, look=look).verdict
        for look in (1, 50)
    ]

    assert verdicts == ["wrong", "undecided"]


def test_where_there_is_no_best_value_the_estimate_is_the_scale() -> None:
    check = checked_estimate(
        "profit_per_case",
        estimated=10.0,
        estimated_error=0.1,
        realised=11.0,
        realised_error=0.1,
        n_rows=500,
        best=None,
    )

    assert check.tolerated == 2.0
    assert check.verdict == "held"


def test_an_estimate_that_was_wrong_has_no_say_until_it_holds_again() -> None:
    wrong = made_check(estimated=0.80, realised=0.60)
    held = made_check(estimated=0.80, realised=0.80)
    unclear = made_check(estimated=0.80, realised=0.60, n_rows=10)

    standings = [
        standing_after(checks, "accuracy")
        for checks in ([], [unclear], [held, wrong], [wrong, unclear], [wrong, held])
    ]

    assert standings == ["unchecked", "unchecked", "wrong", "wrong", "held"]
    assert standing_after([wrong], "recall") == "unchecked"
