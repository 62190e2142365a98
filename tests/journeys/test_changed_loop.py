"""What people change between two runs, and data that are awkward: the loop stays right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopwright as lw
from loopwright.core.errors import InvalidInputError
from loopwright.loop.cycle import Outcome

from .conftest import sales

MakeLoop = Callable[..., lw.Loop]


def run(loop: lw.Loop) -> Outcome:
    return loop.run(on_news=lambda _: None).outcome


def edited(loop: lw.Loop, old: str, new: str) -> None:
    text = loop.read.path.read_text()
    assert old in text
    loop.read.path.write_text(text.replace(old, new))


@pytest.fixture
def classified(tmp_path: Path) -> Iterator[Callable[..., lw.Loop]]:
    """Write a loop that tells a made-up class from two numbers."""
    made: list[lw.Loop] = []

    def make(target: Callable[[np.ndarray], list[Any]], *, n: int = 900, more: str = "") -> lw.Loop:
        rng = np.random.default_rng(5)
        x, z = rng.normal(size=n), rng.normal(size=n)
        values = target(x + 0.6 * np.sin(3 * z) + 0.3 * rng.normal(size=n))
        pl.DataFrame({"x": x, "z": z, "kind": values}).write_parquet(tmp_path / "kinds.parquet")
        path = tmp_path / "kinds.yaml"
        path.write_text(
            "name: kinds\nproblem:\n  target: kind\n  criteria: [{metric: roc_auc, at_least: 0.9}]\n"
            f"{more}"
            "data:\n  source: {kind: file, path: kinds.parquet}\n"
            "train: {algorithms: [lightgbm], hyperparameters: {lightgbm: {rounds: 60}}}\n"
            "deploy: {endpoint: kinds}\nretrain: {min_rows: 250}\n"
        )
        made.append(lw.Loop(path, home=tmp_path / "home"))
        return made[-1]

    yield make
    for loop in made:
        if loop.settings.home.exists():
            loop.stop()


def test_a_moved_criterion_is_judged_anew(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=800)
    assert run(loop).state == "live"
    edited(loop, "at_most: 0.24", "at_most: 0.17")

    outcome = run(loop)

    assert outcome.exit_code == 3
    assert "wanted at most 0.17) is missed" in outcome.message
    assert outcome.status.champion["round"] == 1  # type: ignore[index]
    assert outcome.status.endpoint["alive"]  # type: ignore[index]


def test_what_only_concerns_serving_starts_no_round(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=800)
    version = run(loop).status.champion["version"]  # type: ignore[index]
    url = loop.url
    edited(loop, "endpoint: houses", "endpoint: homes")

    outcome = run(loop)

    assert outcome.status.round["number"] == 1  # type: ignore[index]
    assert outcome.status.endpoint["name"] == "homes"  # type: ignore[index]
    assert outcome.status.endpoint["version"] == version  # type: ignore[index]
    with pytest.raises(Exception, match="did not answer"):
        lw_client(url)


def lw_client(url: str) -> None:
    from loopwright.deploy import EndpointClient

    with EndpointClient.at(url) as client:
        client.ping()


def test_a_stated_task_is_followed_also_later(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(n_rows=800)
    edited(loop, "target: price", "target: condition")
    edited(loop, "- {metric: mape, at_most: 0.24}", "- {metric: accuracy, at_least: 0.9}")
    assert run(loop).status.steps[0]["output"]["task"] == "multiclass"
    edited(loop, "target: condition", "target: condition\n  task: regression")
    edited(loop, "- {metric: accuracy, at_least: 0.9}", "- {metric: mae, at_most: 0.001}")

    outcome = run(loop)

    assert outcome.status.steps[0]["output"]["task"] == "regression"


def test_a_column_that_changes_its_type_does_not_break_the_comparison(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    loop = make_loop(n_rows=800)
    run(loop)
    frame = sales(1_000).with_columns(pl.col("sqft_lot") + 0.5)
    frame.write_parquet(tmp_path / "houses.parquet")

    outcome = run(loop)

    assert outcome.state in ("live", "criterion missed")
    assert outcome.status.endpoint["alive"]  # type: ignore[index]


@pytest.mark.parametrize(
    "target",
    [lambda s: (s > 0).tolist(), lambda s: (s > 0).astype(int).tolist()],
    ids=["true and false", "0 and 1"],
)
def test_a_round_of_its_own_learns_from_labels_of_every_kind(
    classified: Callable[..., lw.Loop], target: Callable[[np.ndarray], list[Any]]
) -> None:
    loop = classified(target)
    assert run(loop).state == "live"
    rng = np.random.default_rng(8)
    rows = [{"x": float(x), "z": float(z)} for x, z in rng.normal(size=(900, 2))]
    answers = loop.predict(rows)
    # the world turns round: what was positive is negative now
    flipped = target(np.array([-row["x"] - 0.6 * np.sin(3 * row["z"]) for row in rows]))
    loop.add_labels(dict(zip([a["inference_id"] for a in answers], flipped, strict=True)))

    outcome = run(loop)

    assert outcome.status.champion["round"] == 2  # type: ignore[index]
    assert outcome.status.champion["figures"]["roc_auc"]["value"] > 0.8  # type: ignore[index]


def test_too_few_rows_of_a_class_are_said_before_training(
    classified: Callable[..., lw.Loop],
) -> None:
    loop = classified(lambda s: (s > np.quantile(s, 0.97)).tolist())

    with pytest.raises(InvalidInputError, match=r"roc_auc at least .* cannot be shown") as caught:
        run(loop)

    assert "are the least that show anything" in caught.value.message
    assert "rows in all" in caught.value.hint
    assert loop.jobs() == []


def test_an_infinite_target_is_refused(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(n_rows=800)
    frame = sales(800)
    prices = frame["price"].to_list()
    prices[3] = float("inf")
    frame.with_columns(price=pl.Series(prices)).write_parquet(tmp_path / "houses.parquet")

    with pytest.raises(InvalidInputError, match="infinite in 1 of 800 rows"):
        run(loop)


def test_a_column_that_is_called_like_the_id_of_a_request_is_refused(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    loop = make_loop(n_rows=800)
    sales(800).rename({"id": "inference_id"}).write_parquet(tmp_path / "houses.parquet")

    with pytest.raises(InvalidInputError, match=r"'inference_id'.*Rename"):
        run(loop)


def test_too_few_rows_are_said_before_anything_is_trained(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=300)

    with pytest.raises(InvalidInputError, match=r"test part would have 30 of 300.*at least 500"):
        run(loop)


def test_an_approved_model_is_the_one_that_goes_live(make_loop: MakeLoop) -> None:
    loop = make_loop(n_rows=800, algorithms="[lightgbm]", approve="manual")
    waiting = run(loop).status.round["waiting"]  # type: ignore[index]
    loop.approve()
    edited(loop, "rounds: 80", "rounds: 60")

    changed = run(loop)
    loop.approve(reason="this one too")
    live = run(loop)

    assert changed.state == "waiting for approval"
    assert changed.status.round["waiting"]["version"] != waiting["version"]  # type: ignore[index]
    assert live.status.champion["version"] == changed.status.round["waiting"]["version"]  # type: ignore[index]


def test_a_model_that_fails_in_place_gives_the_endpoint_back(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopwright.core.errors import BackendError

    loop = make_loop(n_rows=800)
    champion = run(loop).status.champion
    row = sales(10).drop("price").row(0, named=True)
    edited(loop, "rounds: 80", "rounds: 120")

    def failing(*_: object) -> None:
        raise BackendError("The endpoint answers test row 0 with something else.")

    with monkeypatch.context() as broken:
        broken.setattr("loopwright.loop.releasing.verified", failing)
        with pytest.raises(BackendError, match="something else"):
            run(loop)
    served = loop.predict(row)[0]["model_version"]
    kept = loop.status().value.champion
    healed = run(loop)

    assert champion is not None
    assert served == champion["version"] == kept["version"]  # type: ignore[index]
    assert healed.state == "live"
    assert healed.status.endpoint["version"] == healed.status.champion["version"]  # type: ignore[index]
