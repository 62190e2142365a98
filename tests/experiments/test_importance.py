"""What mattered is found from jobs that were run anyway."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loopwright.tune.importance import FEWEST, importances


def jobs(n: int, **fixed: Any) -> list[tuple[str, dict[str, Any], float]]:
    """Return jobs whose loss hangs on `rate` a hundred times more than on `depth`."""
    rng = random.Random(5)
    found = []
    for _ in range(n):
        rate, depth = 10 ** rng.uniform(-3, 0), rng.randint(1, 9)
        found.append(("lightgbm", {"rate": rate, "depth": depth, **fixed}, rate + depth / 1e3))
    return found


def test_what_the_loss_hangs_on_has_the_greatest_share() -> None:
    (found,) = importances(jobs(40, bins=255), higher_is_better=False)

    assert (found.about, found.n_jobs, found.method) == ("lightgbm", 40, "fanova")
    assert found.shares[0][0] == "rate"
    assert found.shares[0][1] > 0.8
    # what is the same in all jobs has no share
    assert {name for name, _ in found.shares} == {"rate", "depth"}
    assert sum(share for _, share in found.shares) == pytest.approx(1.0)


def test_the_same_jobs_give_the_same_shares() -> None:
    assert importances(jobs(20), higher_is_better=True) == importances(
        jobs(20), higher_is_better=True
    )


def test_a_few_jobs_tell_nothing() -> None:
    assert importances(jobs(FEWEST - 1), higher_is_better=False) == ()


def test_jobs_with_equal_results_tell_nothing() -> None:
    equal = [(name, given, 1.0) for name, given, _ in jobs(20)]

    assert importances(equal, higher_is_better=False) == ()


def test_the_algorithm_is_a_parameter_among_several_algorithms() -> None:
    worse = [("knn", {"k": n}, 50.0 + n) for n in range(10)]

    found = importances([*jobs(10), *worse], higher_is_better=False)

    assert [each.about for each in found] == ["lightgbm", "knn", "all"]
    assert found[1].shares == (("k", 1.0),)
    assert found[2].shares[0][0] == "algorithm"


def test_another_way_is_taken_where_the_first_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna.importance

    def fail(**options: Any) -> None:
        raise ImportError("no scikit-learn")

    monkeypatch.setattr(optuna.importance, "FanovaImportanceEvaluator", fail)

    (found,) = importances(jobs(40), higher_is_better=False)

    assert (found.method, found.shares[0][0]) == ("ped-anova", "rate")
