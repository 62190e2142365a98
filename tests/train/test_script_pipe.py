"""Channels through named pipes, read as a script reads them."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopwright.train.script_pipe import feed, make_pipes, plan

Piped = Callable[..., list[str]]


@pytest.fixture
def piped(tmp_path: Path) -> Piped:
    """Return a function that streams a channel `train` and returns where failures are noted."""

    def run(rows: list[list[dict[str, str]]], **more: Any) -> list[str]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        plans = {"train": plan(path, **{"is_wrapped": False, **more})}
        failures: list[str] = []
        make_pipes(tmp_path, plans)
        feed(tmp_path, plans, fail=failures.append)
        return failures

    return run


def test_every_epoch_has_a_pipe_that_is_there_when_the_one_before_is_read(
    tmp_path: Path, piped: Piped
) -> None:
    (tmp_path / "a").write_bytes(b"one\n" * 50_000)

    failures = piped([[{"file": str(tmp_path / "a")}], [{"text": "two"}]])

    for epoch in range(3):
        assert (tmp_path / f"train_{epoch}").read_bytes() == b"one\n" * 50_000 + b"two"
    assert failures == []


def test_who_leaves_before_the_end_finds_the_next_epoch(tmp_path: Path, piped: Piped) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    failures = piped([[{"file": str(tmp_path / "a")}]])

    with (tmp_path / "train_0").open("rb") as file:
        file.read(10)

    assert len((tmp_path / "train_1").read_bytes()) == 1 << 20
    assert failures == []


def test_records_are_framed_and_filled_up_to_four_bytes(tmp_path: Path, piped: Piped) -> None:
    piped([[{"text": "abc"}, {"text": "defgh"}]], is_wrapped=True)

    found = (tmp_path / "train_0").read_bytes()

    sign = 0xCED7230A
    assert found == (
        struct.pack("<II", sign, 3) + b"abc\0" + struct.pack("<II", sign, 5) + b"defgh\0\0\0"
    )


def test_a_seed_makes_the_same_orders_each_time_and_another_for_each_epoch(
    tmp_path: Path, piped: Piped
) -> None:
    piped([[{"text": str(n)}] for n in range(10)], seed=1)

    epochs = [(tmp_path / f"train_{epoch}").read_text() for epoch in range(2)]

    assert [sorted(each) for each in epochs] == [list("0123456789")] * 2
    assert epochs[0] != epochs[1]
    assert epochs == ["8590423176", "5029436817"]


def test_what_cannot_be_unpacked_is_told_and_not_taken_for_the_end(
    tmp_path: Path, piped: Piped
) -> None:
    (tmp_path / "torn").write_bytes(gzip.compress(b"x" * 1000)[:-12])

    failures = piped([[{"file": str(tmp_path / "torn")}]], is_packed=True)
    (tmp_path / "train_0").read_bytes()

    end = time.monotonic() + 5
    while not failures and time.monotonic() < end:
        time.sleep(0.01)
    assert failures[0].startswith("The channel train cannot be streamed: Compressed file ended")
