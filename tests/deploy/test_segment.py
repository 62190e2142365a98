from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.segment import Cursor, SegmentLog, read_page, segments


def read_all(folder: Path, *, max_bytes: int = 1 << 20) -> list[bytes]:
    lines: list[bytes] = []
    cursor = None
    while (page := read_page(folder, after=cursor, max_bytes=max_bytes)).lines:
        lines += page.lines
        cursor = page.cursor
    return lines


def test_lines_come_back_in_their_order(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")

    log.append(b"1\n2\n")
    log.append(b"3\n")

    assert read_page(tmp_path / "log").lines == [b"1", b"2", b"3"]


def test_nothing_is_made_before_the_first_line(tmp_path: Path) -> None:
    SegmentLog(tmp_path / "log").close()

    assert not (tmp_path / "log").exists()
    assert read_page(tmp_path / "log").lines == []


def test_a_full_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=10)

    for number in range(6):
        log.append(b"line%d\n" % number)

    assert [path.name for path in segments(tmp_path)] == [f"{n:08d}.ndjson" for n in range(1, 7)]
    assert read_all(tmp_path) == [b"line%d" % number for number in range(6)]


def test_segments_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    SegmentLog(tmp_path / "log").append(b"1\n")

    assert segments(tmp_path / "log")[0].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


def test_a_torn_tail_is_left_until_it_is_whole(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.append(b"whole\n")
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"to")
    page = read_page(tmp_path)

    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"rn\n")

    assert page.lines == [b"whole"]
    assert read_page(tmp_path, after=page.cursor).lines == [b"torn"]


def test_a_torn_tail_does_not_hide_what_the_next_process_writes(tmp_path: Path) -> None:
    SegmentLog(tmp_path).append(b"whole\n")
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"torn')

    SegmentLog(tmp_path).append(b"next\n")

    assert read_all(tmp_path) == [b"whole", b"next"]


def test_a_write_that_fails_half_way_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentLog(tmp_path)
    log.append(b"before\n")
    write = os.write

    def fill_up(descriptor: int, data: memoryview) -> int:
        if bytes(data) == b"lost\n":
            return write(descriptor, b"lo")
        raise OSError(28, "No space left on device")

    # a full disk cannot be passed in
    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(OSError, match="No space left"):
        log.append(b"lost\n")
    monkeypatch.undo()
    log.append(b"after\n")

    assert read_all(tmp_path) == [b"before", b"lo", b"after"]


def test_two_writers_do_not_share_a_segment(tmp_path: Path) -> None:
    first, second = SegmentLog(tmp_path), SegmentLog(tmp_path)
    first.append(b"a\n")
    second.append(b"b\n")
    page = read_page(tmp_path)
    first.append(b"c\n")

    later = read_page(tmp_path, after=page.cursor)

    assert page.lines == [b"a", b"b"]
    assert later.lines == [b"c"]


def test_a_line_longer_than_a_page_is_read_whole(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.append(b"x" * 1000 + b"\n" + b"y\n")

    assert read_all(tmp_path, max_bytes=10) == [b"x" * 1000, b"y"]


def test_a_cursor_survives_json() -> None:
    cursor = Cursor(offsets={"00000001.ndjson": 7})

    assert Cursor.from_json(cursor.to_json()) == cursor
    with pytest.raises(InvalidInputError, match="not a log cursor"):
        Cursor.from_json({"format": 2, "offsets": {}})


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(st.binary(min_size=1, max_size=30).filter(lambda line: b"\n" not in line)),
    segment_bytes=st.integers(1, 60),
    max_bytes=st.integers(1, 80),
)
def test_every_line_is_read_once_however_it_is_cut(
    lines: list[bytes], segment_bytes: int, max_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = SegmentLog(Path(folder), segment_bytes=segment_bytes)
        found: list[bytes] = []
        cursor = None
        for line in lines:
            log.append(line + b"\n")
            page = read_page(Path(folder), after=cursor, max_bytes=max_bytes)
            found += page.lines
            cursor = page.cursor
        while (page := read_page(Path(folder), after=cursor, max_bytes=max_bytes)).lines:
            found += page.lines
            cursor = page.cursor
        log.close()

    assert found == lines


def test_reading_until_a_cursor_gives_what_its_reader_had_read(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=20)
    for n in range(5):
        log.append(b'{"n": %d}\n' % n)
    known = read_page(tmp_path)
    for n in range(5, 8):
        log.append(b'{"n": %d}\n' % n)
    log.close()

    lines, cursor = [], None
    while (page := read_page(tmp_path, after=cursor, until=known.cursor, max_bytes=12)).lines:
        lines += page.lines
        cursor = page.cursor

    assert sorted(lines) == sorted(known.lines)
