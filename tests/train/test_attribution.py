"""What columns add up to is the answer, whatever answers and whatever is done to its score."""

from __future__ import annotations

from itertools import permutations

import lightgbm
import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train.attribution import Attributor, learned_background, through
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.calibration import Calibration
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.lightgbm_learner import exported_text
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import Link, linked
from loopwright.train.network_predictor import NetworkPredictor
from loopwright.train.predictor import Predictor

X = np.random.default_rng(0).normal(size=(200, 4))
ORIGINS = (("a",), ("b",), ("c",), ("a", "c"))


def linear(link: Link, n_outputs: int = 1) -> LinearPredictor:
    rng = np.random.default_rng(n_outputs)
    return LinearPredictor(
        coefficients=rng.normal(size=(n_outputs, 4)),
        intercepts=rng.normal(size=n_outputs),
        link=link,
    )


def trees(link: Link) -> Predictor:
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    booster = lightgbm.train(settings, lightgbm.Dataset(X, X[:, 0] * X[:, 1]), 15)
    return exported_text(booster.model_to_string(), link=link)


def nearest() -> KnnPredictor:
    return KnnPredictor(
        points=X, values=(X[:, :1] > 0).astype(float), weights=np.ones(len(X)), n_neighbors=7
    )


def network() -> NetworkPredictor:
    rng = np.random.default_rng(1)
    return NetworkPredictor(
        weights=(rng.normal(size=(8, 4)), rng.normal(size=(1, 8))),
        biases=(np.zeros(8), np.zeros(1)),
        link="sigmoid",
    )


def blend() -> BlendPredictor:
    return BlendPredictor(
        members=(trees("sigmoid"), linear("sigmoid"), nearest()),
        spans=((0, 4), (0, 4), (0, 4)),
        weights=np.array([0.5, 0.3, 0.2]),
        n_features=4,
    )


def attributor(predictor: Predictor, calibration: Calibration | None = None) -> Attributor:
    return Attributor(
        predictor=predictor,
        background=learned_background(predictor, X),
        origins=ORIGINS,
        transform=None if calibration is None else calibration.applied,
    )


@pytest.mark.parametrize(
    "predictor",
    [
        linear("identity"),
        linear("exp"),
        linear("sigmoid"),
        linear("softmax", 3),
        trees("identity"),
        trees("exp"),
        trees("sigmoid"),
        nearest(),
        network(),
        blend(),
    ],
    ids=lambda predictor: f"{type(predictor).__name__} {predictor.link}",
)
def test_base_and_columns_add_up_to_the_answer(predictor: Predictor) -> None:
    found = attributor(predictor).attributions(X[:30])

    answers = predictor.predict_raw(X[:30]).reshape(30, -1)
    np.testing.assert_allclose(found.answers(), answers, rtol=1e-10, atol=1e-12)
    assert found.values.shape == (30, 3, answers.shape[1])


@pytest.mark.parametrize(
    ("predictor", "calibration"),
    [
        (trees("sigmoid"), Calibration(method="platt", parameters=(0.7, -0.2))),
        (linear("softmax", 3), Calibration(method="temperature", parameters=(1.7,))),
    ],
    ids=["platt", "temperature"],
)
def test_repaired_probabilities_are_what_columns_add_up_to(
    predictor: Predictor, calibration: Calibration
) -> None:
    found = attributor(predictor, calibration).attributions(X[:20])

    answers = calibration.applied(predictor.predict_raw(X[:20])).reshape(20, -1)
    np.testing.assert_allclose(found.answers(), answers, atol=1e-12)


def test_a_weighted_sum_is_explained_by_its_weights() -> None:
    predictor = linear("identity")

    found = attributor(predictor).attributions(X[:5]).values[:, :, 0]

    part = (X[:5] - X.mean(axis=0)) * predictor.coefficients[0]
    # the last feature is made of a and c: each has half of it
    expected = np.stack(
        [part[:, 0] + part[:, 3] / 2, part[:, 1], part[:, 2] + part[:, 3] / 2], axis=1
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_logarithm_keeps_the_proportions_of_its_score() -> None:
    score, answer = (
        attributor(linear(link)).attributions(X[:10]).values[:, :, 0]
        for link in ("identity", "exp")
    )

    ratio = answer / score
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(3), rtol=1e-9)
    assert (ratio > 0).all()


def test_a_row_like_the_base_has_the_slope_of_the_link() -> None:
    values = np.array([[[0.5], [-0.5]]])  # they cancel: the answer is that of the base

    base, moved = through(np.array([0.0]), values, lambda scores: linked(scores, "sigmoid"))

    assert base == 0.5
    np.testing.assert_allclose(moved[0, :, 0], [0.125, -0.125], rtol=1e-6)


def test_sampled_values_come_near_those_of_all_orders() -> None:
    predictor = network()
    background = learned_background(predictor, X)["rows"]
    x = X[7]
    exact = np.zeros(3)
    players = [(0,), (1,), (2,), (3,)]
    for order in permutations(range(4)):
        for z in background:
            known = z.copy()
            before = predictor.predict_raw(known[None])[0]
            for player in order:
                known[list(players[player])] = x[list(players[player])]
                after = predictor.predict_raw(known[None])[0]
                share = (after - before) / 24 / len(background)
                for column, weight in {0: {0: 1}, 1: {1: 1}, 2: {2: 1}, 3: {0: 0.5, 2: 0.5}}[
                    player
                ].items():
                    exact[column] += weight * share
                before = after

    found = attributor(predictor).attributions(X[7:8])

    assert 0 < found.error < 0.1
    assert np.abs(found.values[0, :, 0] - exact).max() < 5 * found.error


@pytest.mark.parametrize(
    "predictor", [trees("sigmoid"), nearest(), blend()], ids=["trees", "knn", "blend"]
)
def test_a_row_alone_has_the_values_it_has_among_many(predictor: Predictor) -> None:
    found = attributor(predictor)

    alone = found.attributions(X[3:4]).values[0]

    np.testing.assert_allclose(alone, found.attributions(X[:50]).values[3], atol=1e-12)


def test_only_what_is_sampled_is_said_to_be_inexact() -> None:
    exact = [
        attributor(each).is_exact for each in (linear("exp"), trees("exp"), nearest(), blend())
    ]

    assert exact == [True, True, False, False]


@pytest.mark.parametrize("predictor", [linear("exp"), trees("exp"), nearest()])
def test_a_background_that_does_not_fit_is_refused(predictor: Predictor) -> None:
    background = {
        name: array[:-1] if name != "rows" else array[:, :-1]
        for name, array in learned_background(predictor, X).items()
    }

    with pytest.raises(InvalidInputError, match="does not go with it"):
        Attributor(predictor=predictor, background=background, origins=ORIGINS)
    with pytest.raises(InvalidInputError, match="is not there"):
        Attributor(predictor=predictor, background={}, origins=ORIGINS)
