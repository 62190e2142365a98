"""A real endpoint's errors grow: people are told once, say that they know, and accept the change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import loopwright as lw
from loopwright.cli.main import cli

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]
SINK = "alarms: [{kind: command, run: [sh, -c, 'cat >> told.jsonl; echo >> told.jsonl']}]"


def quiet(_: object) -> None:
    return None


def send_dear_sales(loop: lw.Loop, name: str) -> None:
    """Ask about later sales, whose prices turn out to be half as high again."""
    later = sales(1_000, name="later-sales.parquet")
    ids = [f"{name}-{n}" for n in range(later.height)]
    loop.predict(later.drop("price"), inference_ids=ids)
    loop.add_labels(dict(zip(ids, (later["price"] * 1.5).to_list(), strict=True)))


@pytest.mark.slow
def test_an_alarm_is_told_once_known_accepted_and_then_silent(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=3_000)
    text = loop.read.path.read_text().replace("when: [criterion_missed, drift]", "when: []")
    loop.read.path.write_text(f"{text}monitor: {{{SINK}}}\n")
    told = loop.read.path.parent / "told.jsonl"

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["--home", str(loop.settings.home), *words])

    assert loop.run(on_news=quiet).outcome.state == "live"
    assert not loop.alarms()
    send_dear_sales(loop, "spring")
    for _ in range(2):
        loop.run(on_news=quiet)
    kinds = Counter(alarm.kind for alarm in loop.alarms())
    notices = [json.loads(line) for line in told.read_text().splitlines()]

    assert kinds["error"] == 1
    assert kinds["criterion"] == 1
    assert [notice["event"] for notice in notices] == ["opened"]
    assert len(notices[0]["alarms"]) == sum(kinds.values())
    listed = run("alarms", "list", str(loop.read.path))
    assert listed.exit_code == 3, listed.output
    error = next(alarm for alarm in loop.alarms() if alarm.kind == "error")
    run("alarms", "ack", str(loop.read.path), error.id, "--name", "ann")
    assert loop.alarm(error.id).acknowledged_by == "ann"

    accepted = run("alarms", "accept", str(loop.read.path), error.id, "--reason", "a dear year")
    assert accepted.exit_code == 0, accepted.output
    send_dear_sales(loop, "summer")
    loop.run(on_news=quiet)

    kinds = Counter(alarm.kind for alarm in loop.alarms())
    assert kinds["error"] == 0
    assert kinds["criterion"] == 1
    found = loop.chronicle()
    assert [alarm.state for alarm in found.alarms if alarm.kind == "error"] == ["closed"]
    assert len({point.at for point in found.quality}) == 2
    page = loop.page().html
    assert "accepted it as the new normal: a dear year" in page
    assert "The whole history" in page
    shown = run("status")
    assert f"alarm {loop.alarms()[0].id} (open)" in shown.output
