"""Live figures: their arithmetic, their verdicts and how often they are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln
from scipy.stats import binom

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import live_figure, live_figures
from loopwright.monitor.quality import _recent_stretches, mean_radius, rows_needed, share_bounds

Draw = Callable[[int, np.random.Generator], np.ndarray]


def halfnormal(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.abs(rng.normal(size=n)) * 0.13


def skewed(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.lognormal(-2.5, 1.0, size=n)


def mostly_hits(n: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(n) < 0.95) * 1.0


TRUE_MEANS: dict[Draw, float] = {
    halfnormal: 0.13 * math.sqrt(2 / math.pi),
    skewed: math.exp(-2.0),
    mostly_hits: 0.95,
}


def share_ever_wrong(draw: Draw, *, n_runs: int, n: int, every: int, recent: int | None) -> float:
    """How often a verdict is given at any look although the true mean is the target itself."""
    wrong = 0
    for run in range(n_runs):
        values = draw(n, np.random.default_rng(run))
        wrong += any(
            live_figure(values[:k], at_most=TRUE_MEANS[draw], recent=recent).verdict != "undecided"
            for k in range(every, n + 1, every)
        )
    return wrong / n_runs


def test_the_radius_is_the_published_formula() -> None:
    # by hand for t = 1000, s = 2, alpha = 0.05, r^2 = (5.991 + ln 6.991) / 1000 = 0.0079362
    tr2 = 7.9362
    by_hand = 2 * math.sqrt(2 * (tr2 + 1) / (1_000 * tr2) * math.log(math.sqrt(tr2 + 1) / 0.05))

    radius = mean_radius(1_000, deviation=2.0, alpha=0.05, sharpest_at=1_000)

    assert radius == pytest.approx(by_hand, rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([0.05, 0.01]))
def test_share_bounds_solve_the_mixture_equation(k: int, more: int, alpha: float) -> None:
    n = k + more
    lower, upper = share_bounds(k, n, alpha=alpha)

    for bound in (bound for bound in (lower, upper) if 1e-9 < bound < 1 - 1e-9):
        mixture = betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5)
        at_bound = k * math.log(bound) + (n - k) * math.log1p(-bound)
        assert mixture - at_bound == pytest.approx(math.log(1 / alpha), abs=1e-6)
    assert 0 <= lower <= k / n <= upper <= 1


def test_share_bounds_hold_in_any_single_look_by_exact_enumeration() -> None:
    n, p, alpha = 60, 0.1, 0.05

    missed = sum(
        binom.pmf(k, n, p)
        for k in range(n + 1)
        if not (lambda b: b[0] <= p <= b[1])(share_bounds(k, n, alpha=alpha))
    )

    assert missed <= alpha


@pytest.mark.parametrize(
    ("target", "verdict"), [(0.20, "holds"), (0.104, "undecided"), (0.05, "missed")]
)
def test_an_error_is_judged_against_its_limit(target: float, verdict: str) -> None:
    values = halfnormal(2_000, np.random.default_rng(0))

    figure = live_figure(values, metric="mape", at_most=target)

    assert (figure.verdict, figure.direction, figure.n) == (verdict, "at_most", 2_000)
    assert figure.lower is not None
    assert figure.upper is not None
    assert figure.lower < figure.estimate < figure.upper  # type: ignore[operator]


@pytest.mark.parametrize(
    ("target", "verdict"), [(0.20, "holds"), (0.30, "undecided"), (0.40, "missed")]
)
def test_a_share_is_judged_against_its_target(target: float, verdict: str) -> None:
    within = np.random.default_rng(1).random(2_000) < 0.3

    assert live_figure(within * 1.0, at_least=target).verdict == verdict


def test_without_rows_there_is_no_estimate() -> None:
    figure = live_figure([], at_most=0.1)

    assert (figure.n, figure.estimate, figure.lower, figure.verdict) == (0, None, None, "undecided")


def test_few_rows_of_a_loss_have_no_bounds_yet() -> None:
    figure = live_figure([0.5] * 99, at_most=0.1)

    assert (figure.estimate, figure.upper, figure.verdict) == (0.5, None, "undecided")


def test_equal_losses_do_not_make_bounds_of_no_width() -> None:
    figure = live_figure([0.2] * 200, at_most=0.3)

    assert figure.lower is not None
    assert figure.lower < 0.199


def test_a_long_tail_needs_more_rows() -> None:
    rng = np.random.default_rng(0)

    assert rows_needed(rng.normal(size=500)) == 100
    assert rows_needed(rng.lognormal(0, 1.5, size=500)) > 400


def test_a_good_past_does_not_hide_a_recent_break() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([halfnormal(20_000, rng), halfnormal(500, rng) * 2])

    whole, recent = live_figures(values, metric="mape", at_most=0.15)

    assert (whole.verdict, whole.period) == ("holds", "since deployment")
    assert (recent.verdict, recent.period) == ("missed", "recent")
    assert 250 <= recent.n < 500


def test_a_bad_past_does_not_hide_a_recovery() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([halfnormal(2_000, rng) * 9, halfnormal(6_000, rng)])

    whole, recent = live_figures(values, metric="mape", at_most=0.15)

    assert (whole.verdict, recent.verdict) == ("missed", "holds")


def test_a_slow_loss_shows_in_a_longer_recent_stretch() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([halfnormal(40_000, rng) * 0.9, halfnormal(12_000, rng) * 1.55])

    recent = live_figure(values, at_most=0.15, recent=250)

    assert recent.verdict == "missed"
    assert recent.n > 500


def test_all_recent_stretches_that_ever_begin_share_the_allowed_error() -> None:
    spent = {
        (stretch.sharpest_at, n - len(stretch.values)): stretch.alpha
        for n in range(1, 6_000)
        for stretch in _recent_stretches(np.zeros(n), 10, 0.95)
    }

    assert len(spent) > 1_000
    assert 0.04 < sum(spent.values()) <= 0.05


@pytest.mark.parametrize("draw", list(TRUE_MEANS))
def test_looking_often_is_seldom_wrong(draw: Draw) -> None:
    # 40 looks at rows whose mean is the target; a fixed 95 % interval would be wrong in a third
    wrong = share_ever_wrong(draw, n_runs=60, n=2_000, every=50, recent=None)

    assert wrong <= 0.1


def test_a_plain_interval_looked_at_as_often_is_wrong_often() -> None:
    runs = [halfnormal(2_000, np.random.default_rng(run)) for run in range(60)]

    def ever_wrong(values: np.ndarray) -> bool:
        return any(
            abs(values[:k].mean() - TRUE_MEANS[halfnormal]) > 1.96 * values[:k].std() / k**0.5
            for k in range(50, 2_001, 50)
        )

    assert np.mean([ever_wrong(values) for values in runs]) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("draw", list(TRUE_MEANS))
@pytest.mark.parametrize("recent", [None, 250])
def test_five_per_cent_is_the_limit_over_many_runs(draw: Draw, recent: int | None) -> None:
    wrong = share_ever_wrong(draw, n_runs=250, n=4_000, every=100, recent=recent)

    # 0.05 and three standard errors of 250 runs
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 250)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "at_most"),
        ({"at_most": 1.0, "at_least": 1.0}, "at_most"),
        ({"at_most": float("nan")}, "at_most"),
        ({"at_most": 1.0, "confidence": 1.0}, "confidence"),
        ({"at_most": 1.0, "recent": 1}, "recent"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        live_figure([1.0], **arguments)  # type: ignore[arg-type]

    assert caught.value.facts["field"] == field


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 of 3 metric values"):
        live_figure([1.0, float("nan"), float("inf")], at_most=1.0)
