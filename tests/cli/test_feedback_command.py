from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.core.clock import SystemClock
from loopwright.loop.feedback_state import Begun, Ended, Rolled, Trained
from loopwright.loop.feedback_store import tell
from loopwright.store import SqlMetadataStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "loop.yaml").write_text(
        "name: churn\nproblem: {target: churned}\ndata: {source: {kind: file, path: a.csv}}\n"
    )
    home = tmp_path / "home"
    store = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", SystemClock())
    for event in (
        Begun(number=1, cause="first run", reason="new"),
        Trained(number=1),
        Ended(number=1, outcome="live", version="v1"),
    ):
        tell(store, "churn", event, now=SystemClock().now())
    store.close()
    return home


def said(home: Path, *arguments: str) -> Result:
    file = str(home.parent / "loop.yaml")
    command = ["--home", str(home), arguments[0], file, *arguments[1:]]
    return CliRunner().invoke(cli, command, catch_exceptions=False)


def test_a_loop_is_held_frozen_and_resumed_with_reasons(home: Path) -> None:
    held = said(home, "hold", "--reason", "a holiday")
    frozen = said(home, "freeze", "--reason", "an audit", "--name", "ben", "--json")
    resumed = said(home, "resume", "--reason", "it is over")

    assert held.exit_code == frozen.exit_code == resumed.exit_code == 0
    assert "churn is held: no round begins. The champion answers." in held.output
    state = json.loads(frozen.output)
    assert (state["state"], state["reason"], state["back_to"]) == (
        "frozen",
        "ben: an audit",
        "watching",
    )
    assert "churn goes on: the champion answers and is watched." in resumed.output


def test_what_cannot_be_done_says_why_and_changes_nothing(home: Path) -> None:
    nothing = said(home, "resume", "--reason", "why not")
    said(home, "hold", "--reason", "a holiday")
    again = said(home, "hold", "--reason", "another")
    wish = said(home, "retrain", "--reason", "a hunch")

    assert [each.exit_code for each in (nothing, again, wish)] == [2, 2, 2]
    assert "neither held nor frozen: it stands at 'watching'" in nothing.output
    assert "is held since" in again.output
    assert "a holiday" in wish.output


@pytest.mark.parametrize("command", ["hold", "freeze", "resume", "retrain"])
def test_a_reason_must_be_given_and_not_be_empty(home: Path, command: str) -> None:
    assert said(home, command).exit_code == 2
    empty = said(home, command, "--reason", " ")
    assert empty.exit_code == 2
    assert "A reason is needed" in empty.output


def test_a_canary_is_given_back_by_the_next_run_where_one_is_under_way(home: Path) -> None:
    from loopwright.loop.feedback_store import pending_effects

    store = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", SystemClock())
    now = SystemClock().now()
    tell(store, "churn", Begun(number=2, cause="changed", reason=""), now=now)
    tell(store, "churn", Rolled(number=2, version="v2", share=0.1), now=now)

    held = said(home, "hold", "--reason", "complaints")

    # no rollout is on record, so there was nothing to give back and nothing is left to do
    assert held.exit_code == 0
    assert pending_effects(store, "churn") == []
