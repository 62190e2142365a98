"""A person holds the loop, lets it go on, and reads in its history why it did what it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli.main import cli
from loopwright.core.errors import BackendError, WrongStateError
from loopwright.loop.gate import recomputed
from loopwright.train import open_bundle

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]


def quiet(_: object) -> None:
    return None


def send_dear_sales(loop: lw.Loop) -> None:
    """Ask about later sales, whose prices turn out to be half as high again."""
    later = sales(1_000, name="later-sales.parquet")
    ids = [f"sale-{n}" for n in range(later.height)]
    loop.predict(later.drop("price"), inference_ids=ids)
    loop.add_labels(dict(zip(ids, (later["price"] * 1.5).to_list(), strict=True)))


def test_a_loop_that_is_held_goes_round_again_only_when_a_person_resumes_it(
    make_loop: MakeLoop,
) -> None:
    loop = make_loop(n_rows=3_000)
    assert loop.run(on_news=quiet).outcome.state == "live"
    with pytest.raises(WrongStateError, match="0 new labelled live rows have come"):
        loop.retrain(reason="a hunch", on_news=quiet)
    send_dear_sales(loop)

    loop.hold(reason="the office moves house", name="ann")
    held = loop.run(on_news=quiet).outcome
    with pytest.raises(WrongStateError, match="is held since"):
        loop.retrain(reason="a hunch", on_news=quiet)
    loop.resume(reason="it has moved", name="ben")
    outcome = loop.run(on_news=quiet).outcome

    assert (held.state, held.exit_code) == ("held", 0)
    assert "ann: the office moves house" in held.message
    assert held.status.round["number"] == 1  # type: ignore[index]
    assert outcome.status.champion["round"] == 2, outcome.message  # type: ignore[index]
    history = loop.feedback()
    assert (history.state.state, history.state.champion) == (
        "promoted",
        outcome.status.champion["version"],  # type: ignore[index]
    )
    assert history.state.previous == held.status.champion["version"]  # type: ignore[index]
    # the one before is kept: it can be served again
    before = outcome.status.champion["before"]  # type: ignore[index]
    assert before["version"] == history.state.previous
    assert open_bundle(loop.artifact(before["bundle"])).version == before["version"]
    # what answers learnt from all rows, and says that its figures are of the fit before
    champion: dict[str, Any] = outcome.status.champion  # type: ignore[assignment]
    live = open_bundle(loop.artifact(champion["bundle"]))
    told = json.loads(live.read_member("evaluation.json"))["fitted_again"]
    assert told["n_rows"] == 3_000 + 1_000
    assert told["beside_the_judged_fit"]["newest"]["n_rows"] == 300
    assert (
        "fitted again on all 4,000 rows; the figures are those of the fit before"
        in (
            outcome.status.round["conclusion"]  # type: ignore[index]
        )
    )
    assert champion["judged"] != champion["predictor"]
    moves = [(each.kind, each.after) for each in history.decisions]
    ways = [("held", "held"), ("resumed", "watching"), ("looked", "retraining")]
    places = [moves.index(way) for way in ways]
    assert places == sorted(places)
    looked = history.decisions[places[-1]]
    assert looked.cause == "a criterion is missed"
    assert looked.evidence["figures"][0]["verdict"] == "missed"
    ended = next(each for each in history.decisions if each.kind == "ended" and each.round == 2)
    assert recomputed(ended.evidence["gate"]).passes
    found = CliRunner().invoke(
        cli, ["--home", str(loop.settings.home), "status"], catch_exceptions=False
    )
    assert "feedback loop: promoted: a new champion answers" in found.output


@pytest.mark.slow
def test_a_new_champion_that_does_worse_than_the_one_before_is_taken_back(
    make_loop: MakeLoop,
) -> None:
    loop = drifted(make_loop)
    promoted = loop.run(on_news=quiet).outcome
    assert promoted.status.champion["round"] == 2, promoted.message  # type: ignore[index]

    # prices are what they were: the high ones of a while had another reason
    later = sales(400, name="later-sales.parquet")
    ids = [f"again-{n}" for n in range(later.height)]
    loop.predict(later.drop("price"), inference_ids=ids)
    loop.add_labels(dict(zip(ids, later["price"].to_list(), strict=True)))
    outcome = loop.run(on_news=quiet).outcome

    assert (outcome.state, outcome.exit_code) == ("rolled back", 3)
    champion: dict[str, Any] = outcome.status.champion  # type: ignore[assignment]
    assert champion["round"] == 1
    assert "It was taken back to version" in outcome.message
    state = loop.feedback().state
    assert (state.state, state.champion) == ("cooldown", champion["version"])
    answered = loop.predict(sales(1).drop("price"))[0]
    assert str(answered["model_version"]) == champion["version"]
    # looking again changes nothing
    assert loop.run(on_news=quiet).outcome.status.champion["round"] == 1  # type: ignore[index]
    assert loop.feedback().state.champion == champion["version"]


def drifted(make_loop: MakeLoop) -> lw.Loop:
    """Return a loop whose first model is live and wrong about prices of late."""
    loop = make_loop(n_rows=3_000)
    assert loop.run(on_news=quiet).outcome.state == "live"
    send_dear_sales(loop)
    return loop


@pytest.mark.slow
@pytest.mark.parametrize("state", ["retraining", "evaluating", "refit"])
def test_a_round_of_its_own_that_is_killed_goes_on_and_is_begun_once(
    make_loop: MakeLoop, state: str
) -> None:
    loop = drifted(make_loop)
    environment = {**os.environ, "LOOPWRIGHT_HOME": str(loop.settings.home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright", "run", str(loop.read.path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        stages = [each["stage"] for each in loop.status().value.steps]
        if loop.feedback().state.state == state or (state == "refit" and state in stages):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert loop.feedback().state.state in ("retraining", "evaluating")

    outcome = loop.run(on_news=quiet).outcome

    assert outcome.status.champion["round"] == 2, outcome.message  # type: ignore[index]
    kinds = [each.kind for each in loop.feedback().decisions]
    assert kinds.count("trained") == 2
    assert kinds.count("ended") == 2
    assert [each["stage"] for each in outcome.status.steps].count("refit") == 1
    assert [r["number"] for r in outcome.status.rounds] == [1, 2]


@pytest.mark.slow
def test_a_training_that_fails_for_ever_ends_with_a_person_and_the_champion_serves(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = drifted(make_loop)
    text = loop.read.path.read_text()
    loop.read.path.write_text(
        text.replace("retrain: {", "retrain: {cooldown: 0 s, most: {per_day: 9, per_week: 9}, ")
    )

    def broken(*_: object, **__: object) -> object:
        raise BackendError("The training job was killed: it used more than 2 GiB.", hint="")

    monkeypatch.setattr("loopwright.loop.rounds.best_candidate", broken)
    for _ in range(6):
        with pytest.raises(BackendError, match="more than 2 GiB"):
            loop.run(on_news=quiet)
    outcome = loop.run(on_news=quiet).outcome

    assert outcome.state == "held"
    assert "3 rounds of its own failed in a row" in outcome.message
    assert [r["state"] for r in outcome.status.rounds] == ["live", "failed", "failed", "failed"]
    assert outcome.status.champion["round"] == 1  # type: ignore[index]
    assert loop.predict(sales(1).drop("price"))
