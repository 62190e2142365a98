"""Labels and predictions that come in any order, in pieces, twice and late; processes that die."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopwright.monitor import HeldBatch, Ledger, LedgerAbout, join_labels

START = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = {
    "inference_id": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "version": pl.String(),
    "source": pl.String(),
    "inputs": pl.String(),
    "prediction": pl.Float64(),
    "shadow": pl.Boolean(),
}


def hours(n: float) -> datetime:
    return START + timedelta(hours=n)


def predictions_of(*rows: tuple[str, float], version: str = "1") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": [row[0] for row in rows],
            "at": [hours(row[1]) for row in rows],
            "version": [version] * len(rows),
            "variant": pl.Series([None] * len(rows), dtype=pl.String),
            "shadow": [False] * len(rows),
            "prediction": [float(k) for k in range(len(rows))],
            "probability": pl.Series([None] * len(rows), dtype=pl.Float64),
            "probabilities": pl.Series([None] * len(rows), dtype=pl.String),
            "inputs": [
                f'{{"customer": "c{row[0][-1]}", "rooms": {k}}}' for k, row in enumerate(rows)
            ],
        },
        schema_overrides=TYPES,
    )


def labels_of(*rows: tuple[str, object, float], source: str = "test") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": [row[0] for row in rows],
            "label": pl.Series([row[1] for row in rows]),
            "at": [hours(row[2]) for row in rows],
            "source": [source] * len(rows),
        },
        schema_overrides=TYPES,
    )


def values(ledger: Ledger) -> dict[str, object]:
    frame = ledger.labelled(columns=("inference_id", "label"))
    return dict(frame.iter_rows())


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("predictions"),
            st.lists(st.tuples(st.sampled_from("abcde"), st.just(0.0)), max_size=4),
        ),
        st.tuples(
            st.just("labels"),
            st.lists(
                st.tuples(
                    st.sampled_from("abcdz"), st.sampled_from(["1", "2", "x"]), st.integers(0, 3)
                ),
                max_size=5,
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(operations)
def test_piece_by_piece_gives_what_one_join_of_everything_gives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[tuple[object, ...]]]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    predictions, labels = [predictions_of()], [labels_of().cast({"label": pl.String})]

    for n, (what, rows) in enumerate(steps):
        ledger = Ledger(folder, LedgerAbout())  # opened anew every time, as after a kill
        if what == "predictions":
            # a repeated id comes later in time, as when a client asks again
            frame = predictions_of(*[(str(each[0]), float(n)) for each in rows])
            predictions.append(frame)
            ledger.take_predictions(frame)
        else:
            frame = labels_of(*rows).cast({"label": pl.String})
            labels.append(frame)
            ledger.take_labels(frame)

    ledger = Ledger(folder, LedgerAbout())
    joined = join_labels(pl.concat(predictions), pl.concat(labels))
    columns = ("inference_id", "at", "label", "label_at", "first_label_at", "label_source")
    assert_frame_equal(
        ledger.labelled(columns=columns), joined.frame.select(columns).sort("at", "inference_id")
    )
    counts = ledger.counts
    assert (counts.n_predictions, counts.n_labelled) == (joined.n_predictions, joined.frame.height)
    assert counts.n_repeated_predictions == joined.n_repeated_predictions
    assert counts.n_unknown == joined.n_unknown
    assert counts.n_unreadable == joined.n_quarantined
    assert counts.n_duplicate == joined.n_duplicate
    assert counts.n_conflicting == joined.n_conflicting
    assert counts.n_early == joined.n_early


def test_each_prediction_is_newly_labelled_once_however_often_its_label_is_corrected(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_predictions(predictions_of(("a", 0), ("b", 1), ("c", 2)))
    ledger.take_labels(labels_of(("a", 1.0, 5)))
    first = ledger.number

    ledger.take_labels(labels_of(("a", 2.0, 6), ("b", 3.0, 6)))
    ledger.take_labels(labels_of(("b", 4.0, 7)))

    assert ledger.newly_labelled()["inference_id"].to_list() == ["a", "b"]
    later = ledger.newly_labelled(above=first)
    assert later.select("inference_id", "label").rows() == [("b", 4.0)]
    assert ledger.newly_labelled(above=ledger.number).height == 0


def test_a_correction_after_the_grace_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout(grace_s=86_400.0))
    ledger.take_predictions(predictions_of(("a", 0)))

    ledger.take_labels(labels_of(("a", 1.0, 5), ("a", 2.0, 29), ("a", 3.0, 29.5)))

    assert values(ledger) == {"a": 2.0}
    assert (ledger.counts.n_too_late, ledger.counts.n_conflicting) == (1, 1)


def test_a_label_that_was_there_before_its_prediction_is_joined_when_that_comes(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_labels(labels_of(("a", 1.0, 5), ("nobody", 1.0, 5)))
    before = ledger.counts

    ledger.take_predictions(predictions_of(("a", 0)))

    assert (before.n_unknown, before.n_labelled) == (2, 0)
    assert (ledger.counts.n_unknown, ledger.counts.n_labelled) == (1, 1)
    assert ledger.newly_labelled()["label"].to_list() == [1.0]


def test_a_held_batch_counts_for_nothing_and_what_it_overwrote_counts_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_predictions(predictions_of(("a", 0), ("b", 0)))
    ledger.take_labels(labels_of(("a", 1.0, 5)))
    good = ledger.number
    ledger.take_labels(labels_of(("a", 9.0, 6), ("b", 9.0, 6), source="poison"))
    batch = HeldBatch(
        id="1", source="poison", from_at=hours(6), to_at=hours(6), after=good, upto=ledger.number
    )

    ledger.hold([batch])

    assert values(Ledger(tmp_path, LedgerAbout())) == {"a": 1.0}
    assert (ledger.counts.n_held, ledger.counts.n_labelled) == (2, 1)
    assert ledger.newly_labelled(above=good).height == 0

    read_until = ledger.number
    ledger.release("1")

    assert values(ledger) == {"a": 9.0, "b": 9.0}
    assert ledger.counts.n_held == 0
    assert ledger.newly_labelled(above=read_until)["inference_id"].to_list() == ["b"]


def test_a_rejected_batch_stays_rejected_when_the_ledger_is_made_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_predictions(predictions_of(("a", 0)))
    ledger.take_labels(labels_of(("a", 9.0, 6), source="poison"))
    ledger.hold(
        [HeldBatch(id="1", source="poison", from_at=hours(6), to_at=hours(6), after=1, upto=2)]
    )

    anew = Ledger(tmp_path, LedgerAbout(grace_s=60.0))
    anew.take_predictions(predictions_of(("a", 0)))
    anew.take_labels(labels_of(("a", 9.0, 6), source="poison"))

    assert anew.epoch != ledger.epoch
    assert (values(anew), anew.counts.n_held) == ({}, 1)


def test_two_ids_of_one_hash_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ledger", "ledger_row"):
        monkeypatch.setattr(
            f"loopwright.monitor.{module}.hashed", lambda _column: pl.lit(7, dtype=pl.UInt64)
        )
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_predictions(predictions_of(("a", 0), ("b", 1)))
    ledger.take_predictions(predictions_of(("b", 2), ("c", 2)))

    ledger.take_labels(labels_of(("a", 1.0, 5), ("b", 2.0, 5), ("z", 2.0, 5)))
    ledger.take_labels(labels_of(("a", 3.0, 6)))

    assert values(ledger) == {"a": 3.0, "b": 2.0}
    assert (ledger.counts.n_predictions, ledger.counts.n_unknown) == (3, 1)


def test_many_small_commits_end_in_few_files_with_the_same_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    for n in range(30):
        ledger.take_predictions(predictions_of((f"id{n}", n)))
    half = [labels_of((f"id{n}", float(n), 100 + n)) for n in range(0, 30, 2)]
    for each in half:
        ledger.take_labels(each)

    again = Ledger(tmp_path, LedgerAbout())

    assert len(list(tmp_path.glob("*.parquet"))) < 25
    assert len(values(again)) == 15
    above = list(again.predictions(above=26))
    assert pl.concat(above)["inference_id"].to_list() == ["id26", "id27", "id28", "id29"]


@pytest.mark.parametrize("kill_at", range(1, 6))
def test_a_process_killed_at_any_write_has_taken_the_rows_in_or_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    from loopwright.monitor import ledger_files as module

    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_predictions(predictions_of(("a", 0), ("b", 1)))
    writes = 0

    def killed(*args: object, **kwargs: object) -> object:
        nonlocal writes
        writes += 1
        if writes == kill_at:
            raise KeyboardInterrupt
        return original[kwargs.get("number") is None](*args, **kwargs)  # type: ignore[operator]

    original = {False: module.write_run, True: module.write_atomically}
    monkeypatch.setattr(module, "write_run", killed)
    monkeypatch.setattr(module, "write_atomically", killed)
    new = labels_of(("a", 1.0, 5), ("z", 1.0, 5), ("b", None, 5))
    try:
        ledger.take_labels(new, cursors={"labels": 1})
    except KeyboardInterrupt:
        monkeypatch.undo()
        ledger = Ledger(tmp_path, LedgerAbout())
        assert (ledger.number, ledger.cursors) == (1, {})
        ledger.take_labels(new, cursors={"labels": 1})

    assert values(ledger) == {"a": 1.0}
    assert ledger.counts.n_labels == 3
    assert ledger.cursors == {"labels": 1}


def test_shadows_are_joined_too_and_counted_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    shown = predictions_of(("a", 0))
    shadow = predictions_of(("a", 0), version="2").with_columns(
        pl.lit(True).alias("shadow"), pl.lit("next").alias("variant")
    )
    ledger.take_predictions(pl.concat([shown, shadow]))

    ledger.take_labels(labels_of(("a", 1.0, 5)))

    assert (ledger.counts.n_predictions, ledger.counts.n_labelled) == (1, 1)
    assert ledger.labelled(columns=("version",))["version"].to_list() == ["1"]
    assert ledger.labelled(columns=("version",), shadow=True)["version"].to_list() == ["2"]


def test_a_business_key_finds_the_newest_prediction_before_the_label(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, LedgerAbout(key="customer"))
    ledger.take_predictions(predictions_of(("a-7", 0), ("b-7", 3), ("c-7", 9), ("d-8", 1)))

    told = ledger.answers_by_key(
        pl.Series(["c7", "c8", "c8", "nobody"]), pl.Series([hours(5), hours(5), hours(0), hours(5)])
    )

    assert told.rows() == [("b-7", 2), ("d-8", 1), (None, 0), (None, 0)]


def test_the_order_of_labels_inside_and_across_calls_does_not_matter(tmp_path: Path) -> None:
    rows = [(key, value, at) for key in "abc" for value in (1.0, 2.0) for at in (3, 4)]
    found = []
    for n in range(4):
        shuffled = random.Random(n).sample(rows, len(rows))
        ledger = Ledger(tmp_path / str(n), LedgerAbout())
        ledger.take_predictions(predictions_of(("a", 0), ("b", 1), ("c", 2)))
        for start in range(0, len(rows), 5):
            ledger.take_labels(labels_of(*shuffled[start : start + 5]))
        found.append((values(ledger), ledger.counts))

    assert found == [found[0]] * 4
    assert found[0][0] == {"a": 2.0, "b": 2.0, "c": 2.0}


def test_a_label_that_was_taken_back_while_it_waited_does_not_count_when_its_prediction_comes(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, LedgerAbout())
    ledger.take_labels(labels_of(("a1", 9e9, 2), ("a2", 5.0, 3)))
    wrong = HeldBatch(
        id="1", source=None, from_at=hours(2), to_at=hours(2), after=0, upto=ledger.number
    )
    ledger.hold([wrong])

    ledger.take_predictions(predictions_of(("a1", 1), ("a2", 1)))

    assert ledger.labelled(columns=("inference_id", "label")).rows() == [("a2", 5.0)]
    assert ledger.counts.n_held == 1
    ledger.take_labels(labels_of(("a1", 7.0, 4)))
    assert sorted(ledger.labelled(columns=("label",))["label"]) == [5.0, 7.0]
    ledger.release("1")
    assert ledger.counts.n_held == 0
