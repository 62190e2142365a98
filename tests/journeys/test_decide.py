"""Each of five kinds of problems reaches its verdict from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli.main import cli

EXAMPLES = Path(__file__).parents[2] / "examples"
HOUSES = EXAMPLES / "house-prices" / "houses.parquet"


def run(
    folder: Path, rows: pl.DataFrame, problem: str, *, more: str = "", split: str = "{}"
) -> dict[str, Any]:
    """Run a loop over some rows from the command line and return what it says as JSON."""
    rows.write_parquet(folder / "rows.parquet")
    (folder / "loop.yaml").write_text(
        f"name: case\nproblem:\n{problem}"
        f"data: {{source: {{kind: file, path: rows.parquet}}, split: {split}}}\n"
        "train: {algorithms: [lightgbm], hyperparameters: {lightgbm: {rounds: 60}}, "
        f"resources: {{cpus: 1, memory: 2 GiB}}}}\n{more}"
    )
    command = ["run", str(folder / "loop.yaml"), "--home", str(folder / "home"), "--json"]
    result = CliRunner().invoke(cli, command)
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == told.get("exit_code"), told
    return told


def decision(told: dict[str, Any]) -> dict[str, Any]:
    steps = {step["stage"]: step for step in told["status"]["steps"]}
    found: dict[str, Any] = steps["decide"]["output"]
    return found


def orders(n: int = 1_500) -> pl.DataFrame:
    """Return made-up orders of which those above 900 from Nigeria are looked at, but for slips."""
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "amount": rng.gamma(2, 400, n).round(2),
            "country": rng.choice(["DE", "FR", "NG", "US"], n),
            "items": rng.integers(1, 9, n),
        }
    )
    asked = ((rows["amount"] > 900) & (rows["country"] == "NG")).to_numpy()
    slips = rng.random(n) < 0.005
    return rows.with_columns(review=pl.Series(np.where(asked ^ slips, "yes", "no")))


ORDERS = """\
  question: Which orders need a second look?
  target: review
  positive: "yes"
  criteria: [{metric: f1, at_least: 0.85}]
"""
CHURN = """\
  question: Who will leave next month?
  action: Those likely to leave are offered a discount
  today: {does: everyone gets the offer, cost_per_case: 2}
  target: Churn
  positive: "Yes"
  payoff: {true_positive: 160, false_positive: -20, false_negative: -400}
  criteria:
    - {metric: roc_auc, at_least: 0.80}
"""
HOUSE = "  target: price\n  criteria: [{{metric: mape, at_most: {mape}}}]\n"


def test_a_two_condition_rule_is_enough_and_nothing_is_trained(tmp_path: Path) -> None:
    told = run(tmp_path, orders(), ORDERS)

    assert told["state"] == "rule enough"
    assert told["exit_code"] == 0
    found = decision(told)
    assert found["decision"] == "rule_enough"
    assert found["rule"]["n_conditions"] == 2
    assert "When 'country' is 'NG' and 'amount' is more than" in told["message"]
    assert "def answer(row):" in told["message"]
    assert "As SQL: CASE WHEN" in told["message"]
    assert not [step for step in told["status"]["steps"] if step["stage"] == "train"]


@pytest.mark.timeout(120)
def test_a_rule_goes_live_like_a_model_where_the_file_says_so(tmp_path: Path) -> None:
    rows = orders(4_000)
    more = "decide: {when_rule_is_enough: deploy}\ndeploy: {endpoint: orders}\n"

    told = run(tmp_path, rows, ORDERS, more=more)
    loop = lw.Loop(tmp_path / "loop.yaml", home=tmp_path / "home")
    try:
        asked = rows.drop("review").head(40)
        answers = loop.predict(asked)
        truth = pl.DataFrame(
            {
                "inference_id": [answer["inference_id"] for answer in answers],
                "label": rows["review"].head(40),
            }
        )
        n_labels = loop.add_labels(truth)
        report = loop.monitor()
    finally:
        loop.stop()

    assert told["state"] == "live", told
    assert told["status"]["champion"]["algorithm"] == "rule"
    scope: dict[str, Any] = {}
    exec(decision(told)["rule"]["python"], scope)  # noqa: S102 the promise is that it can be pasted
    expected = [scope["answer"](row) for row in asked.iter_rows(named=True)]
    assert [answer["prediction"] for answer in answers] == expected
    assert n_labels == 40
    assert report.n_labelled == 40


def test_a_shuffled_target_is_no_machine_learning_problem(tmp_path: Path) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(12)
    rows = rows.with_columns(pl.col("price").shuffle(seed=3))

    told = run(tmp_path, rows, HOUSE.format(mape=0.15))

    assert told["exit_code"] == 4
    found = decision(told)
    assert found["decision"] == "no_signal"
    assert found["signal"]["p_value"] > 0.05
    assert "targets shuffled at random" in told["message"]


def test_too_few_rows_are_told_how_many_more_to_collect(tmp_path: Path) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(66).head(250)
    split = "{train: 0.4, validation: 0.2, test: 0.4}"

    told = run(tmp_path, rows, HOUSE.format(mape=0.12), split=split)

    assert told["exit_code"] == 4
    found = decision(told)
    assert found["decision"] == "not_with_this_data"
    assert found["shortfalls"][0]["more_rows"] >= 100
    assert "more rows would do" in told["message"]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_churn_with_a_payoff_is_worth_machine_learning(tmp_path: Path) -> None:
    rows = pl.read_parquet(EXAMPLES / "telecom-churn" / "churn.parquet")

    told = run(tmp_path, rows, CHURN)

    found = decision(told)
    assert found["decision"] == "ml_worth_it"
    assert found["advantage"]["metric"] == "profit_per_case"
    assert found["advantage"]["is_better"]
    assert any("beside today's 2 a case" in line for line in found["evidence"])
    assert told["state"] == "live"
    assert told["exit_code"] == 0


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_house_prices_are_worth_machine_learning(tmp_path: Path) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(4)
    problem = HOUSE.format(mape=0.20) + "  today: {does: a valuer visits, cost_per_case: 180}\n"

    told = run(tmp_path, rows, problem)

    assert decision(told)["decision"] == "ml_worth_it"
    assert told["state"] == "live"
