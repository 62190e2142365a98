"""The shipped churn example, as it lies in the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

import loopwright as lw
from loopwright.loop import read_loop_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "telecom-churn"


def test_the_loop_file_of_the_example_can_be_read() -> None:
    read = read_loop_file(EXAMPLE / "loop.yaml")

    assert read.content.name == "telecom-churn"
    assert [each.metric for each in read.content.problem.criteria] == ["roc_auc", "recall"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_example_goes_live_and_answers(tmp_path: Path) -> None:
    folder = tmp_path / "churn"
    shutil.copytree(EXAMPLE, folder)
    loop = lw.Loop(folder / "loop.yaml", home=tmp_path / "home")
    try:
        outcome = loop.run(on_news=lambda _: None).outcome

        assert outcome.state == "live", outcome.message
        verified = next(
            each["output"] for each in outcome.status.steps if each["stage"] == "verify"
        )
        assert verified["n_bit_equal"] == verified["n_rows"] > 600
        row = pl.read_parquet(folder / "churn.parquet").drop("Churn").row(0, named=True)
        answer = loop.predict(row)[0]
        assert answer["prediction"] in ("Yes", "No")
        assert 0 < answer["probability"] < 1
    finally:
        loop.stop()
