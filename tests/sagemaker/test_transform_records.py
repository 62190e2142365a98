"""Records of a batch transform and the paths of its filters, without a server."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.event_stream import payload_parts
from loopwright.sagemaker.json_path import NothingFoundError, path_of, selected
from loopwright.sagemaker.transform_record import (
    BadDataError,
    Processing,
    body_of,
    form_of,
    joined,
    records_of,
    requests_of,
)

ROW = ["7", "a", "0.5"]
THING = {"id": 7, "features": [1, 2, 3], "in": {"b": 2}}


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("$", ROW, ROW),
        ("$[0]", ROW, "7"),
        ("$[-1]", ROW, "0.5"),
        ("$[1:]", ROW, ["a", "0.5"]),
        ("$[:-1]", ROW, ["7", "a"]),
        ("$[0,2]", ROW, ["7", "0.5"]),
        ("$[0, 1:3]", ROW, ROW),
        ("$.features", THING, [1, 2, 3]),
        ("$.in.b", THING, 2),
        ("$.features[1]", THING, 2),
        ("$['id']", THING, 7),
        ("$['id','in']", THING, {"id": 7, "in": {"b": 2}}),
        ('$["features"][0:2]', THING, [1, 2]),
        ("$.in.*", THING, [2]),
    ],
)
def test_a_path_leads_to_what_it_names(path: str, value: Any, wanted: Any) -> None:
    assert selected(value, path_of(path)) == wanted


@pytest.mark.parametrize(
    "path", ["", "id", "$..id", "$[?(@.a)]", "$[(1)]", "$.", "$[", "$[a]", "$['a',0]", "$x"]
)
def test_a_path_that_is_not_supported_is_refused(path: str) -> None:
    with pytest.raises(ApiError, match="is invalid"):
        path_of(path)


@pytest.mark.parametrize(
    ("path", "value"), [("$.no", THING), ("$[9]", ROW), ("$.id.x", THING), ("$[0]", THING)]
)
def test_a_path_that_leads_nowhere_says_so(path: str, value: Any) -> None:
    with pytest.raises(NothingFoundError):
        selected(value, path_of(path))


def test_files_are_split_at_lines_or_not_at_all() -> None:
    data = b"a,1\r\n\nb,2\nc,3"

    assert list(records_of(io.BytesIO(data), "Line")) == [b"a,1", b"b,2", b"c,3"]
    assert list(records_of(io.BytesIO(data), "None")) == [data]


def test_record_formats_are_split_at_their_frames() -> None:
    frames = [
        struct.pack("<II", 0xCED7230A, len(each)) + each + b"\0" * (-len(each) % 4)
        for each in (b"abc", b"defgh")
    ]
    tf = [struct.pack("<QI", len(each), 0) + each + b"crc!" for each in (b"abc", b"de")]

    assert list(records_of(io.BytesIO(b"".join(frames)), "RecordIO")) == frames
    assert list(records_of(io.BytesIO(b"".join(tf)), "TFRecord")) == tf
    for kind, whole in (("RecordIO", frames), ("TFRecord", tf)):
        with pytest.raises(BadDataError, match="cut off"):
            list(records_of(io.BytesIO(b"".join(whole)[:-1]), kind))
        with pytest.raises(BadDataError, match="is no"):
            list(records_of(io.BytesIO(b"\xff" * 40), kind))


@given(
    records=st.lists(st.binary(min_size=1, max_size=9), max_size=30),
    limit=st.integers(10, 40),
    is_multi=st.booleans(),
)
def test_requests_hold_every_record_once_within_the_limit(
    records: list[bytes], limit: int, is_multi: bool
) -> None:
    found = list(requests_of(iter(records), is_multi=is_multi, most_bytes=limit))

    assert [each for one in found for each in one] == records
    assert all(sum(map(len, each)) + len(each) <= limit for each in found)
    if not is_multi:
        assert all(len(each) == 1 for each in found)


def test_a_record_that_is_too_large_is_told_in_sagemaker_s_words() -> None:
    with pytest.raises(BadDataError, match=r"^Too much data for max payload size$"):
        list(requests_of(iter([b"x" * 11]), is_multi=True, most_bytes=10))


def process(before: str = "$", after: str = "$", *, joins: bool = False) -> Processing:
    return Processing(before=path_of(before), after=path_of(after), joins=joins)


def test_a_filter_takes_the_columns_that_the_model_reads() -> None:
    records = [b'7,"a,b",0.5', b"8,c,0.6"]

    body = body_of(records, process("$[1:]"), split="Line", form="csv")

    assert body == b'"a,b",0.5\nc,0.6\n'
    with pytest.raises(BadDataError, match="finds no 5"):
        body_of(records, process("$[5]"), split="Line", form="csv")


def test_answers_are_joined_to_their_rows_and_filtered() -> None:
    records = [b"7,1,2", b"8,3,4"]
    how = process("$[1:]", "$[0,-1]", joins=True)

    lines = joined(records, b"0.1\n0.2\n", how, given="csv", said="csv")
    in_one_line = joined(records, b"0.1,0.2", how, given="csv", said="csv")

    assert lines == in_one_line == [b"7,0.1", b"8,0.2"]


def test_json_answers_stand_under_sagemaker_output() -> None:
    records = [b'{"id": 1}', b"[5]"]
    answers = b'{"predictions": [{"score": 0.1}, {"score": 0.2}]}'

    found = joined(records, answers, process(joins=True), given="json", said="json")
    one = joined(
        records[:1],
        b'{"score": 3}\n',
        process("$", "$['id','SageMakerOutput']", joins=True),
        given="json",
        said="json",
    )

    assert [json.loads(each) for each in found] == [
        {"id": 1, "SageMakerOutput": {"score": 0.1}},
        {"SageMakerInput": [5], "SageMakerOutput": {"score": 0.2}},
    ]
    assert json.loads(one[0]) == {"id": 1, "SageMakerOutput": {"score": 3}}


def test_answers_that_are_not_one_for_each_record_are_refused() -> None:
    with pytest.raises(BadDataError, match="Failed to parse output from the algorithm: 1 answers"):
        joined([b"1", b"2"], b"0.1\n", process(joins=True), given="csv", said="csv")
    with pytest.raises(BadDataError, match="both be CSV"):
        joined([b"1"], b"0.1\n", process(joins=True), given="csv", said="json")


def test_media_types_have_a_form() -> None:
    assert form_of("text/csv; charset=utf-8") == "csv"
    assert form_of("application/jsonlines") == "json"
    assert form_of("application/x-npy") == ""


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_frames_of_a_stream_are_read_by_botocore(size: int) -> None:
    body = bytes(each % 251 for each in range(size))
    buffer = EventStreamBuffer()

    buffer.add_data(payload_parts(body))
    events = list(buffer)

    assert b"".join(each.payload for each in events) == body
    assert {each.headers[":event-type"] for each in events} == {"PayloadPart"}
