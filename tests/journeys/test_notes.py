"""A domain expert's notes reach the profile, the recipe and the next round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli.main import cli
from loopwright.core.errors import InvalidInputError

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]


def noted(loop: lw.Loop, *arguments: str) -> Any:
    home = str(loop.settings.home)
    return CliRunner().invoke(cli, ["--home", home, "note", str(loop.read.path), *arguments])


def explained(loop: lw.Loop) -> list[list[Any]]:
    steps = {step["stage"]: step for step in loop.status().value.steps}
    return [step for recipe in steps["prepare"]["output"]["explained"].values() for step in recipe]


def test_notes_lead_to_a_round_that_goes_by_them(make_loop: MakeLoop) -> None:
    loop = make_loop(algorithms="[linear-learner]", hyperparameters="{}")
    loop.run(on_news=lambda _: None)
    loop.note("sqft_lot15", text="Nobody asks for it.", decision="drop", by="Ann")
    noted(loop, "grade", "--unit", "points", "--range", "5", "11", "--by", "Ann")

    outcome = loop.run(on_news=lambda _: None).outcome

    assert outcome.state == "live", outcome.message
    rounds = [event for event in loop.history() if event["what"] == "round begun"]
    assert [event["reason"] for event in rounds][1:] == ["changed: notes"]
    reason = "irrelevant because nobody asks for it (by Ann)"
    assert ["drop", ["sqft_lot15"], reason] in explained(loop)
    page = loop.profile().html
    assert reason in page
    assert "allowed: 5 to 11 points" in page
    assert "lie outside the allowed range 5 to 11 points (by Ann)" in page
    assert loop.run(on_news=lambda _: None).outcome.n_steps == 0
    # with what people forbid, the champion is no rival: the request need not hold the column
    assert loop.predict(sales(1).drop("price", "sqft_lot15"))[0]["prediction"] > 0

    wrong = noted(loop, "zip_code", "--decision", "drop")
    assert wrong.exit_code == 2
    assert "Did you mean 'zipcode'?" in wrong.stderr

    loop.remove_note("sqft_lot15")
    loop.note("id", decision="keep", text="Old ids are old houses.")
    loop.run(on_news=lambda _: None)

    dropped = {name for kind, names, _ in explained(loop) if kind == "drop" for name in names}
    assert not {"sqft_lot15", "id"} & dropped


def test_a_note_before_the_first_run_is_kept_for_it(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=200)

    first = noted(loop, "lat", "--text", "degrees north", "--json")

    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)[0]["text"] == "degrees north"
    assert [note.column for note in loop.notes()] == ["lat"]
    assert "degrees north" in noted(loop).stdout
    assert "No note on 'lat' is left" in noted(loop, "lat", "--remove").stdout


@pytest.mark.parametrize(
    ("column", "given", "message"),
    [
        ("price", {"decision": "drop"}, "problem.target"),
        ("id", {"decision": "keep"}, "prepare.drop"),
        ("lat", {}, "says nothing"),
    ],
)
def test_a_note_against_the_loop_file_is_refused(
    make_loop: MakeLoop, tmp_path: Path, column: str, given: dict[str, Any], message: str
) -> None:
    loop = make_loop(n_rows=200)
    text = loop.read.path.read_text()
    loop.read.path.write_text(text.replace("train:", "prepare: {drop: [id]}\ntrain:", 1))

    with pytest.raises(InvalidInputError, match=message):
        loop.note(column, **given)

    assert not (tmp_path / "home").exists()
