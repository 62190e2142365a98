"""Quality without labels: right where only inputs moved, silent where it cannot know, blind to concept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from loopwright.monitor.class_estimate import repaired_shares
from loopwright.monitor.estimate import ASSUMES, Estimation, Unlabelled, estimation
from loopwright.monitor.reference_rows import ReferenceRows
from loopwright.problem import Answers, Criterion, class_answers, metric_named, value_answers

N_BINS = 32


def made(n: int, seed: int, *, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two inputs in [0, 1], the first tilted; and their bins."""
    rng = np.random.default_rng(seed)
    x = rng.random((4 * n, 2))
    keep = rng.choice(4 * n, n, replace=False, p=(w := np.exp(tilt * x[:, 0])) / w.sum())
    x = x[keep]
    return x, np.minimum(x * N_BINS, N_BINS - 1).astype(np.uint8)


def codes_with(codes: np.ndarray, answer: np.ndarray) -> np.ndarray:
    ranks = np.clip(answer * N_BINS / max(answer.max(), 1e-9), 0, N_BINS - 1)
    return np.column_stack([codes, ranks.astype(np.uint8)])


def kept(codes: np.ndarray, raw: np.ndarray, y: np.ndarray) -> ReferenceRows:
    nothing = np.zeros((0, 0))
    return ReferenceRows(
        codes=codes_with(codes, raw), raw=raw, y=y, influence=nothing, features=np.zeros((4, 0))
    )


def binary_case(
    seed: int, *, tilt: float, names: Sequence[str], skewed: bool = False, look: int = 1
) -> tuple[Estimation, dict[str, float]]:
    """Estimates of a model whose probabilities are right, or squared where skewed; and the truth."""
    made_rows = []
    for n, which, lean in ((2_500, seed, 0.0), (2_000, seed + 1, tilt)):
        x, codes = made(n, which, tilt=lean)
        chance = 0.05 + 0.7 * x[:, 0] ** 2
        y = (np.random.default_rng(which + 100).random(n) < chance) * 1.0
        made_rows.append((codes, chance**1.5 if skewed else chance, y))
    (codes, said, y), (live_codes, live_said, live_y) = made_rows
    metrics = [metric_named(name) for name in names]
    live = class_answers(live_said)
    found = estimation(
        kept(codes, said, y),
        class_answers(said),
        Unlabelled(codes=codes_with(live_codes, live_said), answers=live),
        [Criterion(metric=name, at_least=0.5) for name in names],
        metrics,
        ordered=np.ones(3, dtype=np.bool_),
        look=look,
    )
    return found, {metric.name: measured(metric, live_y, live) for metric in metrics}


def measured(metric: object, y: np.ndarray, answers: Answers) -> float:
    return float(metric.resampled(y, answers, np.ones((1, len(y))))[0])  # type: ignore[attr-defined]


CLASS_NAMES = ("log_loss", "brier", "accuracy", "precision", "recall", "f1", "roc_auc")


@pytest.mark.parametrize("tilt", [0.0, 2.0])
@pytest.mark.parametrize("skewed", [False, True])
def test_metrics_of_classes_are_estimated_where_only_inputs_moved(
    tilt: float, skewed: bool
) -> None:
    found, truth = binary_case(1, tilt=tilt, names=CLASS_NAMES, skewed=skewed)

    for estimate, deviation in zip(found.estimates, found.deviations, strict=True):
        assert estimate.value is not None
        # the truth has an error of its own, about as large
        assert abs(estimate.value - truth[estimate.metric]) < 4 * deviation + 0.01
        assert estimate.assumes == ASSUMES
    if tilt:
        losses = {each.metric: each for each in found.estimates}
        before, now = losses["log_loss"].reference, losses["log_loss"].value
        assert before is not None
        assert now is not None
        assert now > before + 0.03


def test_bounds_cover_the_expected_metric_as_often_as_they_say() -> None:
    covered = []
    for seed in range(0, 24, 2):
        x, codes = made(500, seed)
        chance = 0.1 + 0.6 * x[:, 0]
        y = (np.random.default_rng(seed + 500).random(500) < chance) * 1.0
        live_x, live_codes = made(500, seed + 1, tilt=1.0)
        live_chance = 0.1 + 0.6 * live_x[:, 0]
        found = estimation(
            kept(codes, chance, y),
            class_answers(chance),
            Unlabelled(
                codes=codes_with(live_codes, live_chance), answers=class_answers(live_chance)
            ),
            [Criterion(metric="brier", at_most=0.2)],
            [metric_named("brier")],
            ordered=np.ones(3, dtype=np.bool_),
            confidence=0.95,
            look=0,
        ).estimates[0]
        # all live rows there could be: the mean over the tilted density, on a fine grid
        grid = (np.arange(4_000) + 0.5) / 4_000
        p = 0.1 + 0.6 * grid
        truth = np.average(p * (1 - p), weights=np.exp(grid))
        assert found.lower is not None
        assert found.upper is not None
        covered.append(found.lower <= truth <= found.upper)

    assert sum(covered) >= 10


@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_metrics_of_numbers_are_estimated_where_only_inputs_moved(tilt: float) -> None:
    names = ("mae", "rmse", "mape", "share_within_10_percent", "medae", "r2")
    rows = []
    for n, seed, lean in ((2_500, 11, 0.0), (2_000, 12, tilt)):
        x, codes = made(n, seed, tilt=lean)
        said = 100 * (1 + x[:, 0])
        # errors grow with the first input, so that a tilt makes them worse
        noise = np.random.default_rng(seed).normal(size=n) * (5 + 20 * x[:, 0])
        rows.append((codes, said, said + noise))
    (codes, said, y), (live_codes, live_said, live_y) = rows
    metrics = [metric_named(name) for name in names]

    found = estimation(
        kept(codes, said, y),
        value_answers(said),
        Unlabelled(codes=codes_with(live_codes, live_said), answers=value_answers(live_said)),
        [Criterion(metric=name, at_most=1.0) for name in names],
        metrics,
        ordered=np.ones(3, dtype=np.bool_),
    )

    for estimate, deviation, metric in zip(found.estimates, found.deviations, metrics, strict=True):
        truth = measured(metric, live_y, value_answers(live_said))
        assert estimate.value is not None
        assert abs(estimate.value - truth) < 5 * deviation, metric.name
    if tilt:
        assert found.estimates[0].reference is not None
        assert found.estimates[0].value is not None
        assert found.estimates[0].value > 1.1 * found.estimates[0].reference


def test_more_than_two_classes_are_estimated_too() -> None:
    rng = np.random.default_rng(21)
    rows = []
    for n, seed, tilt in ((2_500, 22, 0.0), (2_000, 23, 1.5)):
        x, codes = made(n, seed, tilt=tilt)
        scores = np.stack([np.ones(n), 3 * x[:, 0], 2 * x[:, 1]], axis=1)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        y = (shares.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).astype(float)
        rows.append((codes_with(codes, x[:, 0]), shares, y))
    (codes, shares, y), (live_codes, live_shares, live_y) = rows
    metrics = [metric_named(name) for name in ("log_loss", "accuracy", "macro_f1")]
    reference = ReferenceRows(
        codes=codes, raw=shares, y=y, influence=np.zeros((0, 0)), features=np.zeros((4, 0))
    )

    found = estimation(
        reference,
        class_answers(shares),
        Unlabelled(codes=live_codes, answers=class_answers(live_shares)),
        [Criterion(metric=metric.name, at_least=0.1) for metric in metrics],
        metrics,
        ordered=np.ones(3, dtype=np.bool_),
    )

    for estimate, deviation, metric in zip(found.estimates, found.deviations, metrics, strict=True):
        truth = measured(metric, live_y, class_answers(live_shares))
        assert estimate.value is not None
        assert abs(estimate.value - truth) < 4 * deviation + 0.01


def test_money_is_estimated_where_every_row_is_worth_the_same() -> None:
    payoff = {"true_positive": 10.0, "false_positive": -1.0, "false_negative": -5.0}
    x, codes = made(1_000, 31)
    y = (np.random.default_rng(32).random(1_000) < x[:, 0]) * 1.0
    metric = metric_named("profit_per_case", payoff=payoff)

    found = estimation(
        kept(codes, x[:, 0], y),
        class_answers(x[:, 0]),
        Unlabelled(codes=codes_with(codes, x[:, 0]), answers=class_answers(x[:, 0])),
        [Criterion(metric="profit_per_case", at_least=1.0)],
        [metric],
        ordered=np.ones(3, dtype=np.bool_),
    ).estimates[0]

    assert found.value == pytest.approx(measured(metric, y, class_answers(x[:, 0])), abs=0.3)


def test_money_by_row_is_not_guessed() -> None:
    payoff = {"true_positive": "value", "false_positive": -1.0}
    x, codes = made(500, 33)
    y = (x[:, 0] > 0.5) * 1.0

    found = estimation(
        kept(codes, x[:, 0], y),
        class_answers(x[:, 0]),
        Unlabelled(codes=codes_with(codes, x[:, 0]), answers=class_answers(x[:, 0])),
        [Criterion(metric="profit_per_case", at_least=1.0)],
        [metric_named("profit_per_case", payoff=payoff)],
        ordered=np.ones(3, dtype=np.bool_),
    ).estimates[0]

    assert found.value is None
    assert "worth" in found.reason
    assert not found.is_missed


def test_a_few_rows_or_rows_unlike_all_others_are_not_estimated() -> None:
    x, codes = made(600, 41)
    far = np.full((300, 3), 31, dtype=np.uint8)
    y = (x[:, 0] > 0.5) * 1.0
    reasons = []
    for live_codes in (codes_with(codes, x[:, 0])[:99], far):
        said = np.full(len(live_codes), 0.5)
        found = estimation(
            kept(codes, x[:, 0], y),
            class_answers(x[:, 0]),
            Unlabelled(codes=live_codes, answers=class_answers(said)),
            [Criterion(metric="accuracy", at_least=0.9)],
            [metric_named("accuracy")],
            ordered=np.ones(3, dtype=np.bool_),
        )
        assert found.estimates[0].value is None
        assert found.estimates[0].verdict == "undecided"
        assert math.isnan(found.deviations[0])
        reasons.append(found.estimates[0].reason)

    assert "99 rows" in reasons[0]
    assert "too little in common" in reasons[1]


def test_a_criterion_far_off_is_missed_and_one_at_the_figure_is_undecided() -> None:
    found, _ = binary_case(51, tilt=0.0, names=("accuracy",))
    value = found.estimates[0].value
    assert value is not None
    x, codes = made(2_500, 51)
    chance = 0.05 + 0.7 * x[:, 0] ** 2
    y = (np.random.default_rng(151).random(2_500) < chance) * 1.0
    live = Unlabelled(codes=codes_with(codes, chance), answers=class_answers(chance))
    targets = (value + 0.1, value, value - 0.1)

    verdicts = [
        estimation(
            kept(codes, chance, y),
            class_answers(chance),
            live,
            [Criterion(metric="accuracy", at_least=target)],
            [metric_named("accuracy")],
            ordered=np.ones(3, dtype=np.bool_),
        ).estimates[0]
        for target in targets
    ]

    assert [each.verdict for each in verdicts] == ["missed", "undecided", "holds"]
    assert verdicts[0].is_missed


def test_later_looks_need_more_evidence_for_a_verdict() -> None:
    widths = []
    for look in (1, 10, 1_000):
        estimate = binary_case(61, tilt=0.0, names=("brier",), look=look)[0].estimates[0]
        assert estimate.lower is not None
        assert estimate.upper is not None
        widths.append(estimate.upper - estimate.lower)

    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]


def test_another_truth_for_the_same_inputs_does_not_show() -> None:
    x, codes = made(2_000, 71)
    chance = 0.1 + 0.8 * x[:, 0]
    y = (np.random.default_rng(72).random(2_000) < chance) * 1.0

    found = estimation(
        kept(codes, chance, y),
        class_answers(chance),
        Unlabelled(codes=codes_with(codes, chance), answers=class_answers(chance)),
        [Criterion(metric="accuracy", at_least=0.5)],
        [metric_named("accuracy")],
        ordered=np.ones(3, dtype=np.bool_),
    ).estimates[0]

    flipped = measured(metric_named("accuracy"), 1 - y, class_answers(chance))
    assert found.value == pytest.approx(found.reference, abs=0.03)
    assert found.value is not None
    assert flipped < found.value - 0.3


def test_the_same_rows_give_the_same_estimates() -> None:
    one, other = (binary_case(81, tilt=1.0, names=CLASS_NAMES)[0] for _ in range(2))

    assert one.estimates == other.estimates


def test_repaired_probabilities_leave_right_ones_alone_and_mend_wrong_ones() -> None:
    rng = np.random.default_rng(91)
    chance = rng.random(5_000) * 0.9 + 0.05
    y = (rng.random(5_000) < chance) * 1.0
    odds = np.log(chance / (1 - chance))
    over = 1 / (1 + np.exp(-2 * odds - 0.5))

    for said in (chance, over):
        pairs = np.stack([1 - said, said], axis=1)
        shares, _ = repaired_shares(pairs, y, pairs, weights=np.ones(5_000))

        assert np.abs(shares[:, 1] - chance).max() < 0.03
