"""A better model takes over in steps, or is rolled back: the loop, the store, the live endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import loopwright as lw
from loopwright.core.errors import WrongStateError
from loopwright.loop.release import plain_row

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]
ROLLOUT = "deploy: {endpoint: houses, rollout: {kind: canary, steps: [0.5, 1.0], bake: 1 hour}}"


def quiet(_: object) -> None:
    return None


def with_new_model(loop: lw.Loop, home: Path, *, rounds: int) -> lw.Loop:
    """Return the loop after a change that leads to another model, and asks for a canary."""
    text = loop.read.path.read_text()
    text = text.replace("deploy: {endpoint: houses}", ROLLOUT)
    before = text.index("hyperparameters:")
    end = text.index("\n", before)
    text = text[:before] + f"hyperparameters: {{lightgbm: {{rounds: {rounds}}}}}" + text[end:]
    loop.read.path.write_text(text)
    return lw.Loop(loop.read.path, home=home)


@pytest.mark.slow
def test_a_new_model_is_rolled_out_in_steps_and_another_one_back(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    loop = make_loop(algorithms="[lightgbm]", hyperparameters="{lightgbm: {rounds: 50}}", mape=0.28)
    first = loop.run(on_news=quiet).outcome
    assert first.state == "live", first.message
    before = first.status.champion["version"]  # type: ignore[index]

    loop = with_new_model(loop, home, rounds=90)
    second = loop.run(on_news=quiet).outcome
    again = loop.run(on_news=quiet).outcome

    assert second.state == again.state == "rolling out", second.message
    assert "answers 50% of the callers (step 1 of 2)" in again.message
    assert again.n_steps == 0
    rollout = again.status.rollout
    assert rollout is not None
    assert (rollout["phase"], rollout["share"], rollout["before"]) == ("baking", 0.5, before)
    assert again.status.champion["version"] == before  # type: ignore[index]
    with loop.endpoint as client:
        row = plain_row(sales(1_500).drop("price").row(3, named=True))
        named = {
            name: client.invoke([row], variant=name)[0]["model_version"]
            for name in ("current", "next")
        }
    assert named == {"current": before, "next": rollout["version"]}

    loop.monitor(on_news=quiet)
    done = loop.rollout(promote=True, reason="it is right")

    assert done is not None
    assert (done["phase"], done["told"]) == (
        "done",
        f"version {rollout['version']} answers everything",
    )
    last = loop.run(on_news=quiet).outcome
    assert last.state == "live"
    assert last.status.champion["version"] == rollout["version"]  # type: ignore[index]
    with pytest.raises(WrongStateError, match="No rollout of the loop 'houses' is under way"):
        loop.rollout(abort=True)

    loop = with_new_model(loop, home, rounds=60)
    third = loop.run(on_news=quiet).outcome
    if third.state != "rolling out":  # it was no better than the champion
        return
    back = loop.rollout(abort=True, reason="a hunch")
    end = loop.run(on_news=quiet).outcome
    assert back is not None
    assert back["phase"] == "rolled back"
    assert (end.state, end.exit_code) == ("rolled back", 3)
    assert "a hunch" in end.message
    assert end.status.champion["version"] == rollout["version"]  # type: ignore[index]
