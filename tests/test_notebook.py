from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import loopwright as lw
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.notebook import Page, as_rows, read_table

ROWS = [{"n": 1, "on": "2026-01-31"}, {"n": None, "on": "2026-02-01"}]


def test_rows_may_be_a_mapping_a_list_or_a_table() -> None:
    frame = pl.DataFrame({"n": [1, None], "on": [date(2026, 1, 31), date(2026, 2, 1)]})

    assert as_rows(ROWS[0]) == [ROWS[0]]
    assert as_rows(ROWS) == ROWS
    assert as_rows(frame) == ROWS
    assert as_rows(pd.DataFrame({"a": ["x", None]})) == [{"a": "x"}, {"a": None}]
    with pytest.raises(InvalidInputError, match="given as int"):
        as_rows(7)


def test_a_page_is_framed_so_that_its_content_cannot_reach_the_notebook(tmp_path: Path) -> None:
    page = Page("<script>alert('x')</script>")

    shown = page._repr_html_()

    assert "<script>" not in shown
    assert "sandbox" in shown
    assert page.save(tmp_path / "page.html").read_text() == "<script>alert('x')</script>"


def test_a_home_where_nothing_ran_is_said_and_not_made(tmp_path: Path) -> None:
    home = tmp_path / "home"

    assert lw.loops(home=home) == []
    with pytest.raises(NotFoundError, match="no loopwright store"):
        lw.status(home=home)
    assert not home.exists()


def test_a_loop_that_has_not_run_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    pl.DataFrame({"x": range(300), "y": range(300)}).write_parquet(tmp_path / "t.parquet")
    lw.init(path, source=tmp_path / "t.parquet", target="y", name="line")
    loop = lw.Loop(path, home=tmp_path / "home")

    for ask in (loop.status, loop.profile, loop.monitor, lambda: loop.predict({})):
        with pytest.raises((NotFoundError, WrongStateError)) as caught:
            ask()
        assert caught.value.hint


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_tables_are_read_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"inference_id": ["a", "b"], "label": ["1", "2"]})
    path = tmp_path / name
    {".parquet": frame.write_parquet, ".csv": frame.write_csv, ".jsonl": frame.write_ndjson}[
        path.suffix
    ](path)

    assert read_table(path).to_dicts() == frame.to_dicts()


def test_a_drafted_file_says_the_task_and_the_positive_class(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("age,left\n" + "\n".join(f"{n},{'yes' if n % 3 else 'no'}" for n in range(99)))

    path = lw.init(tmp_path / "loop.yaml", source=table, target="left", question="Who: leaves?")
    loop = lw.Loop(path, home=tmp_path / "home")

    problem = loop.read.content.problem
    assert (problem.task, problem.positive, problem.question) == ("binary", "yes", "Who: leaves?")
    assert problem.criteria[0].metric == "roc_auc"
