from __future__ import annotations

import numpy as np
import pytest

from loopwright.sagemaker.algorithm import BUILT_INS, metric_definitions
from loopwright.sagemaker.learner_metric import LEARNER_METRICS, learner_metrics


def test_the_metrics_of_two_classes_count_from_the_threshold_on() -> None:
    y, p = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.9, 0.4, 0.3])

    low = learner_metrics("binary", y, p, {}, threshold=0.35)
    high = learner_metrics("binary", y, p, {"f_beta": "2"}, threshold=0.5)

    assert low["binary_classification_accuracy"] == 1.0
    # one of two is found, and what is found is right: F2 = 5 * 0.5 / (4 + 0.5)
    assert (high["precision"], high["recall"]) == (1.0, 0.5)
    assert high["binary_f_beta"] == pytest.approx(5 * 0.5 / 4.5)
    assert high["roc_auc_score"] == low["roc_auc_score"] == 1.0


def test_one_class_alone_has_no_area_under_a_curve() -> None:
    found = learner_metrics("binary", np.zeros(3), np.array([0.1, 0.2, 0.3]), {}, threshold=0.5)

    assert "roc_auc_score" not in found
    assert found["binary_f_beta"] == 0.0


def test_the_metrics_of_several_classes() -> None:
    shares = np.array([[0.5, 0.3, 0.2]] * 3)

    found = learner_metrics(
        "multiclass", np.array([0.0, 1.0, 2.0]), shares, {"accuracy_top_k": '"2"'}, threshold=0.5
    )

    assert found["multiclass_accuracy"] == pytest.approx(1 / 3)
    assert found["multiclass_top_k_accuracy"] == pytest.approx(2 / 3)
    # the true class is first, second and third: 1/log2(2), 1/log2(3), 1/log2(4)
    assert found["dcg"] == pytest.approx((1 + 1 / np.log2(3) + 0.5) / 3)


def test_the_metrics_of_numbers() -> None:
    found = learner_metrics(
        "regression", np.array([1.0, 2.0]), np.array([2.0, 4.0]), {}, threshold=0.5
    )

    assert found == pytest.approx(
        {"mse": 2.5, "rmse": 2.5**0.5, "absolute_loss": 1.5, "objective_loss": 2.5}
    )


def test_a_tuner_can_name_each_of_them() -> None:
    known = BUILT_INS["linear-learner"].metrics

    assert "validation:binary_f_beta" in known
    assert {each.partition(":")[2] for each in known} == set(LEARNER_METRICS)
    assert len(metric_definitions("linear-learner")) == len(known)
