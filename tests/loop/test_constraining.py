from __future__ import annotations

import json
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.loop.constraining import (
    check_explainable,
    latency_ms,
    measures_model,
    without_personal,
)
from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.problem import Constraints


def loop_file(
    *, constraints: str, prepare: str = "{}", algorithms: str = "[linear-learner]"
) -> Any:
    text = (
        f"name: churn\nproblem: {{target: churned, constraints: {constraints}}}\n"
        "data: {source: {kind: file, path: a.csv}}\n"
        f"prepare: {prepare}\ntrain: {{algorithms: {algorithms}}}\n"
    )
    return parse_loop_file(text.encode())


def test_only_models_that_can_be_read_are_trained_where_that_is_asked() -> None:
    check_explainable(
        loop_file(constraints="{explainable: true}", algorithms="[linear-learner, decision-tree]")
    )
    check_explainable(loop_file(constraints="{}", algorithms="[lightgbm]"))
    for name in ("lightgbm", "auto"):
        loop = loop_file(constraints="{explainable: true}", algorithms=f"[decision-tree, {name}]")
        with pytest.raises(InvalidInputError, match=f"train.algorithms has '{name}'") as caught:
            check_explainable(loop)
        assert caught.value.facts["field"] == "train.algorithms[1]"


def dropped(loop: LoopFile) -> tuple[str, ...]:
    return without_personal(loop, ["phone", "email"]).prepare.drop


def test_columns_of_personal_data_are_dropped_where_that_is_asked() -> None:
    assert dropped(
        loop_file(constraints="{personal_data: false}", prepare="{drop: [id, email]}")
    ) == (
        "id",
        "email",
        "phone",
    )
    assert dropped(loop_file(constraints="{}", prepare="{drop: [id]}")) == ("id",)


@pytest.mark.parametrize(
    ("prepare", "field"),
    [
        ("{keep: [age, phone]}", "prepare.keep[1]"),
        ('{derive: {code: "lower(email)"}}', "prepare.derive.code"),
        (
            "{steps: [{step: frequency, columns: [phone], reason: try}]}",
            "prepare.steps[0]",
        ),
    ],
)
def test_features_made_of_personal_data_by_order_are_refused(prepare: str, field: str) -> None:
    loop = loop_file(constraints="{personal_data: false}", prepare=prepare)

    with pytest.raises(InvalidInputError, match="holds personal data") as caught:
        dropped(loop)

    assert caught.value.facts["field"] == field
    # where personal data is allowed, they stand
    dropped(loop_file(constraints="{}", prepare=prepare))


class _Slow:
    """A model whose every hundredth answer takes longer, in place of `ServingModel.predict`."""

    def __init__(self) -> None:
        self.n_calls = 0

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        import time

        self.n_calls += 1
        until = time.perf_counter() + (0.004 if json.loads(rows[0]["slow"]) else 0.0)
        while time.perf_counter() < until:
            pass
        return [{}]


def test_the_latency_is_that_of_the_slowest_answer_in_a_hundred() -> None:
    rare = [{"slow": str(int(at == 7))} for at in range(300)]
    often = [{"slow": str(int(at % 20 == 0))} for at in range(300)]

    assert latency_ms(_Slow(), rare) < 3.0  # type: ignore[arg-type]
    assert latency_ms(_Slow(), often) >= 4.0  # type: ignore[arg-type]


def test_a_model_is_measured_only_where_something_is_asked_of_it() -> None:
    assert not measures_model(None)
    assert not measures_model(Constraints(personal_data=False))
    assert measures_model(Constraints(size_mb=1.0))
