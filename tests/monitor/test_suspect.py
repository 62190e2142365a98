"""Which batches of labels are held, and which changes of the world are none of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import SourceHistory, Suspect, judged_batches

START = datetime(2026, 1, 1, tzinfo=UTC)
BINS = (2, 8)


def rows(
    n: int,
    *,
    loss: float = 0.3,
    shuffled: float = 0.8,
    positive: float = 0.3,
    source: str = "app",
    hour: int = 0,
    was_labelled: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    rng = np.random.default_rng([seed, hour])
    return pl.DataFrame(
        {
            "source": [source] * n,
            "label_at": [START + timedelta(hours=hour, seconds=k % 3_000) for k in range(n)],
            "loss": rng.exponential(loss, n),
            "shuffled": rng.exponential(shuffled, n),
            "label_bin": (rng.random(n) < positive).astype(np.int64),
            "answer_bin": rng.integers(0, 8, n),
            "was_labelled": [was_labelled] * n,
        },
        schema_overrides={"label_at": pl.Datetime("us", "UTC")},
    )


def judged(
    new: pl.DataFrame, history: dict[str, SourceHistory], *, moved: bool = False, **more: object
) -> tuple[list[Suspect], dict[str, SourceHistory]]:
    return judged_batches(
        new,
        history,
        n_bins=BINS,
        span=(1, 2),
        inputs_moved=moved,
        now=START,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def history() -> dict[str, SourceHistory]:
    found: dict[str, SourceHistory] = {}
    for hour in range(6):
        both = pl.concat([rows(300, hour=hour), rows(300, hour=hour, source="shop", seed=1)])
        suspects, found = judged(both, found)
        assert suspects == []
    return found


def kinds(suspects: list[Suspect]) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.batch.source, each.kinds) for each in suspects]


def test_one_source_that_suddenly_disagrees_is_held_and_the_other_is_not(
    history: dict[str, SourceHistory],
) -> None:
    new = pl.concat(
        [rows(200, loss=0.75, shuffled=1.5, hour=9), rows(200, hour=9, source="shop", seed=1)]
    )

    suspects, after = judged(new, history)

    assert kinds(suspects) == [("app", ("loss",))]
    assert suspects[0].n_rows == 200
    assert "mean loss" in suspects[0].told
    assert after["app"] == history["app"]
    assert after["shop"].n > history["shop"].n


def test_a_change_that_all_sources_see_is_a_change_of_the_world(
    history: dict[str, SourceHistory],
) -> None:
    new = pl.concat(
        [
            rows(200, loss=0.7, shuffled=1.5, hour=9),
            rows(200, loss=0.7, shuffled=1.5, hour=9, source="shop", seed=1),
        ]
    )

    assert judged(new, history)[0] == []


def test_an_error_that_doubles_is_drift_where_there_is_one_source(
    history: dict[str, SourceHistory],
) -> None:
    assert judged(rows(400, loss=0.6, shuffled=1.2, hour=9), history)[0] == []


def test_a_loss_beyond_any_drift_is_held_even_where_there_is_one_source(
    history: dict[str, SourceHistory],
) -> None:
    new = rows(400, loss=1.5, shuffled=2.5, hour=9)

    assert kinds(judged(new, history)[0]) == [("app", ("loss",))]


def test_what_inputs_explain_is_not_held(history: dict[str, SourceHistory]) -> None:
    new = pl.concat(
        [rows(200, loss=0.9, shuffled=1.5, hour=9), rows(200, hour=9, source="shop", seed=1)]
    )

    assert judged(new, history, moved=True)[0] == []


def test_labels_without_any_relation_to_the_answers_are_held(
    history: dict[str, SourceHistory],
) -> None:
    new = rows(300, loss=0.8, shuffled=0.8, hour=9)

    suspects, _ = judged(new, history)

    assert suspects[0].kinds == ("unrelated",)


def test_labels_that_are_turned_over_are_held_although_that_changes_their_mix(
    history: dict[str, SourceHistory],
) -> None:
    turned = rows(500, loss=2.4, shuffled=1.6, positive=0.7, hour=9)
    first_ones = rows(500, loss=1.6, shuffled=1.6, positive=0.7, hour=9)

    suspects, _ = judged(turned, history)
    of_one_class, _ = judged(first_ones, history)

    assert kinds(suspects) == [("app", ("unrelated",))]
    assert of_one_class == []


def test_labels_of_another_mix_are_held(history: dict[str, SourceHistory]) -> None:
    suspects, _ = judged(rows(100, positive=1.0, hour=9), history)

    assert kinds(suspects) == [("app", ("labels",))]


def test_a_batch_that_contradicts_earlier_labels_is_held_even_from_an_unknown_source() -> None:
    suspects, _ = judged(rows(150, source="new", was_labelled=True), {})

    assert kinds(suspects) == [("new", ("contradiction",))]


def test_an_accepted_batch_is_not_held_again_and_becomes_what_is_usual(
    history: dict[str, SourceHistory],
) -> None:
    new = rows(200, positive=1.0, hour=9)
    (suspect,), _ = judged(new, history)

    again, after = judged(new, history, accepted=[suspect])
    later, _ = judged(rows(200, positive=1.0, hour=10), after)

    assert (again, later) == ([], [])


def test_history_follows_and_stays_small(history: dict[str, SourceHistory]) -> None:
    found = history
    for hour in range(20, 60):
        _, found = judged(rows(400, loss=0.35, hour=hour), found)

    assert found["app"].n <= 5_000
    assert found["app"].mean == pytest.approx(0.35, rel=0.05)
    assert found["app"].variance == pytest.approx(0.35**2, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_usual_labels_are_hardly_ever_held(seed: int) -> None:
    found: dict[str, SourceHistory] = {}
    n_held = 0
    for hour in range(150):
        suspects, found = judged(rows(60 + hour, hour=hour, seed=seed), found)
        n_held += len(suspects)

    assert n_held == 0


def test_a_source_under_a_new_name_is_judged_by_what_labels_were_like(
    history: dict[str, SourceHistory],
) -> None:
    new = rows(200, loss=1.2, shuffled=1.2, hour=9, source="labels-2026-01-02.csv")

    suspects, after = judged(new, history)

    assert [each.batch.source for each in suspects] == ["labels-2026-01-02.csv"]
    assert "loss" in suspects[0].kinds
    assert "labels-2026-01-02.csv" not in after


def test_sound_labels_of_a_new_source_count(history: dict[str, SourceHistory]) -> None:
    suspects, after = judged(rows(200, hour=9, source="labels.csv", seed=5), history)

    assert suspects == []
    assert after["labels.csv"].n == 200


def test_a_file_name_for_every_day_does_not_grow_the_record_without_end() -> None:
    held: dict[str, SourceHistory] = {}
    for day in range(250):
        _, held = judged(rows(60, source=f"{day}.csv", seed=day), held)

    assert len(held) == 100
    assert sum(each.n for each in held.values()) == pytest.approx(250 * 60)
