"""Wrong labels counted and are taken back: the monitor stands where it stood without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli.main import cli
from loopwright.loop.live_statistics import statistics_of
from loopwright.notebook.home import existing_workspace

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]


def quiet(_: object) -> None:
    return None


def send(loop: lw.Loop, rows: pl.DataFrame, *, times: float, source: str) -> None:
    ids = [f"{source}-{n}" for n in range(rows.height)]
    loop.predict(rows.drop("price"), inference_ids=ids)
    truth = dict(zip(ids, (rows["price"] * times).to_list(), strict=True))
    loop.add_labels(truth, source=source)


def kept(loop: lw.Loop) -> tuple[Any, ...]:
    """Return what the monitor has learnt of labels."""
    workspace = existing_workspace(loop.settings)
    memory = workspace.metadata.get("monitor", "houses").body
    statistics = statistics_of(workspace, "houses")
    figures = [
        (each["metric"], each["n"], each["estimate"]) for each in memory["report"]["figures"]
    ]
    sums = [(each.n_labelled, sum(each.losses), sum(each.delays)) for each in statistics.values()]
    labelled = [sum(column) for column in zip(*sums, strict=True)]
    loss = round(sum(each.loss_sum for each in statistics.values()), 6)
    history = workspace.metadata.get("label_history", "houses").body["sources"]
    error = memory["state"]["error"]
    return error, memory["state"]["n_labelled"], figures, labelled, loss, sorted(history)


@pytest.mark.slow
def test_the_monitor_stands_where_it_stood_without_the_labels(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=3_000)
    later = sales(1_000, name="later-sales.parquet")
    assert loop.run(on_news=quiet).outcome.state == "live"
    send(loop, later[:600], times=1.0, source="app")
    loop.monitor(on_news=quiet)
    before = kept(loop)
    send(loop, later[600:700], times=1.25, source="import")
    loop.monitor(on_news=quiet)
    wrong = kept(loop)

    words = ["--home", str(loop.settings.home), "labels", "take-back", str(loop.read.path)]
    taken = CliRunner().invoke(cli, [*words, "--source", "import", "--reason", "wrong currency"])
    report = loop.monitor(on_news=quiet)

    assert taken.exit_code == 0, taken.output
    assert "Took back 100 labels" in taken.output
    assert "No model has learnt from them" in taken.output
    assert wrong != before
    assert kept(loop) == before
    assert report.n_labelled == 600
