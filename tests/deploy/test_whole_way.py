"""The whole way, which is one call of the kernel, and the long one: the same bytes, the same capture."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.kernel import find_kernel
from loopwright.deploy.capture import CaptureLog
from loopwright.deploy.model import Served
from loopwright.deploy.whole_way import MAX_BYTES, WholeWay, find_whole_way
from loopwright.problem import Task
from loopwright.train import ServingModel
from loopwright.train.calibration import Calibration

_spec = importlib.util.spec_from_file_location(
    "small_model", Path(__file__).with_name("small_model.py")
)
assert _spec is not None
assert _spec.loader is not None
small: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)
asked, captured, long_answer = small.asked, small.captured, small.long_answer
model_of, table = small.model_of, small.table

pytestmark = pytest.mark.skipif(find_kernel() is None, reason="there is no kernel")

CASES: list[tuple[Task, str]] = [
    ("regression", "linear-learner"),
    ("regression", "xgboost"),
    ("binary", "lightgbm"),
    ("multiclass", "decision-tree"),
    ("multiclass", "lightgbm"),
    ("binary", "knn"),
]
ROW = b'{"size": 12.50, "town": "Ulm", "has_garden": true, "rooms": 3}'


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    task, algorithm = request.param
    return model_of(task, algorithm, tmp_path_factory.mktemp("models"))


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[tuple[CaptureLog, CaptureLog]]:
    both = CaptureLog(tmp_path / "whole"), CaptureLog(tmp_path / "long")
    yield both
    for log in both:
        log.close()


def whole_way(served: Served, capture: CaptureLog | None = None) -> WholeWay:
    way = find_whole_way(served, capture)
    assert way is not None
    return way


def lines(log: CaptureLog) -> list[bytes]:
    """Return captured lines byte for byte, but for the time."""
    found = [line for path in log.folder.glob("*") for line in path.read_bytes().splitlines()]
    return [line[: line.index(b',"at":"')] + line[line.index(b',"version"') :] for line in found]


TOWNS = st.sampled_from(
    ["Bonn", "K\u00f6ln", "Ulm", "Rom", "\u00dclm", " Ulm ", 'a\\b"c\n', "\U0001f600", ""]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
USUAL = st.fixed_dictionaries(
    {"size": NUMBERS | st.none(), "town": TOWNS, "has_garden": st.booleans(), "rooms": NUMBERS},
    optional={"target": st.none() | st.text(max_size=3), "else": st.integers(), "x y": TOWNS},
)
ANY = st.dictionaries(
    st.sampled_from(
        [
            "size",
            "town",
            "has_garden",
            "rooms",
            "target",
            "else",
            "inference_id",
            "instances",
            "data",
            "columns",
        ]
    ),
    st.none() | st.booleans() | NUMBERS | TOWNS | st.lists(st.integers(), max_size=2),
)
BODIES = st.one_of(
    USUAL,
    ANY,
    st.lists(USUAL | ANY, max_size=12),
    st.lists(USUAL, min_size=1, max_size=12),
    st.fixed_dictionaries({"instances": st.lists(USUAL, max_size=9)}),
    st.lists(USUAL, min_size=1, max_size=4).map(
        lambda rows: {
            "columns": list(rows[0]),
            "data": [[row.get(n) for n in rows[0]] for row in rows],
        }
    ),
)


@settings(max_examples=150, deadline=None)
@given(body=BODIES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_goes_the_whole_way_is_answered_as_by_the_long_one_to_the_last_byte(
    model: ServingModel, body: Any, ascii_only: bool, indent: int | None
) -> None:
    served = Served(model=model, version="v1")
    request = asked(json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode())

    whole = whole_way(served).answer(request.body, "one")

    if whole is not None:
        long = long_answer(request, served, None)
        assert (long.status, long.body) == (200, whole[0])


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(USUAL, min_size=1, max_size=40))
def test_usual_batches_go_the_whole_way(model: ServingModel, rows: list[Any]) -> None:
    for row in rows:
        row["town"] = row["town"].strip() or "Ulm"

    body = json.dumps(rows, ensure_ascii=False).encode()
    whole = whole_way(Served(model=model, version=3)).answer(body, "one")

    if whole is not None:
        assert whole[1] == len(rows)
        assert len(json.loads(whole[0])["predictions"]) == len(rows)
    # an answer that no float can hold is for the long way
    assert whole is not None or _is_wild(rows)


def _is_wild(rows: list[Any]) -> bool:
    return any(abs(row[name] or 0) > 1e50 for row in rows for name in ("size", "rooms"))


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 70), put=st.binary(max_size=3), at=st.integers(0, 70))
def test_malformed_bytes_are_answered_only_where_the_long_way_answers_the_same(
    model: ServingModel, cut: int, put: bytes, at: int
) -> None:
    body = ROW[:at] + put + ROW[at + cut % 4 :]
    served = Served(model=model, version="v1")

    whole = whole_way(served).answer(body, "one")

    if whole is not None:
        long = long_answer(asked(body), served, None)
        assert (long.status, long.body) == (200, whole[0])


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"[", b"{", b"[]", b"{}", b"[[]]", b"[" * 50_000, b'{"a":' * 50_000, b"\xff", ROW[:-1], ROW + b"x",
        ROW.replace(b"12.50", b"NaN"), ROW.replace(b"12.50", b"1e999"), ROW.replace(b"12.50", b"012"),
        ROW.replace(b"12.50", b"9" * 5000), ROW.replace(b"12.50", b'"12"'), ROW.replace(b"Ulm", b"\xff"),
        ROW.replace(b"Ulm", b"\xed\xa0\x80"), ROW.replace(b"Ulm", b"\\ud800"), ROW.replace(b"Ulm", b"\\"),
        ROW.replace(b"rooms", b"size"), ROW.replace(b"{", b'{"inference_id": "a", '), b"[" + ROW + b",]",
        b'{"instances": [' + ROW + b'], "more": 1}', b'{"columns": ["size"], "data": [[1, 2]]}',
        b'{"columns": ["size", "size"], "data": [[1, 2]]}', b" " * (MAX_BYTES + 1),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_left_to_the_long_way(model: ServingModel, body: bytes) -> None:
    assert whole_way(Served(model=model, version="v1")).answer(body, "one") is None


@pytest.mark.parametrize("variant", [None, "blue"])
def test_both_ways_capture_the_same_bytes(
    model: ServingModel, logs: tuple[CaptureLog, CaptureLog], variant: str | None
) -> None:
    served = Served(model=model, version='v"1', variant=variant, is_shadow=variant is not None)
    way = whole_way(served, logs[0])
    rows = table(model.task).drop("target").head(30).to_dicts()
    rows += [
        {**rows[0], "size": size} for size in (5e-324, 1e-5, 1e16, -0.0, 0, 1e22, 12345678901234567)
    ]
    bodies = [json.dumps(each).encode() for each in (*rows, rows)]
    bodies += [
        ROW,
        ROW.replace(b"12.50", b"-0"),
        ROW.replace(b"12.50", b"0.00001200"),
        ROW.replace(b"12.50", b"7.000"),
    ]

    found = [way.answer(body, "one") for body in bodies]

    assert [each and each[0] for each in found] == [
        long_answer(asked(body), served, logs[1]).body for body in bodies
    ]
    assert lines(logs[0]) == lines(logs[1])
    assert len(captured(logs[0])) == len(rows) + len(rows) + 4
    assert logs[0].n_written == logs[1].n_written


def test_a_share_is_captured_of_the_same_predictions(
    model: ServingModel, logs: tuple[CaptureLog, CaptureLog]
) -> None:
    served = Served(model=model, version=1)
    for log in logs:
        log.share = 0.4
    body = json.dumps(table(model.task).drop("target").to_dicts()).encode()

    assert whole_way(served, logs[0]).answer(body, "one") is not None
    long_answer(asked(body), served, logs[1])

    assert lines(logs[0]) == lines(logs[1])
    assert 0 < logs[0].n_written < 200


def test_policies_are_kept(model: ServingModel) -> None:
    strict = Served(
        model=model.with_unknown_columns("refuse").with_unseen_categories("refuse"), version=1
    )
    way = whole_way(strict)

    assert way.answer(ROW, "one") is not None
    assert way.answer(ROW.replace(b"Ulm", b"Rom"), "one") is None
    assert way.answer(ROW.replace(b"{", b'{"else": 1, '), "one") is None
    assert way.answer(ROW.replace(b"{", b'{"else": [1], '), "one") is None


def test_a_calibrated_probability_is_the_same_by_both_ways(tmp_path: Path) -> None:
    model = model_of("binary", "lightgbm", tmp_path)
    calibration = Calibration(method="beta", parameters=(0.5, 0.7, 0.1))
    calm = replace(model, outcome=replace(model.outcome, calibration=calibration))
    served = Served(model=calm, version="v1")
    body = json.dumps(table("binary").drop("target").head(50).to_dicts()).encode()

    whole = whole_way(served).answer(body, "one")

    assert whole is not None
    assert whole[0] == long_answer(asked(body), served, None).body


def test_several_threads_get_the_same_answers_or_are_sent_the_long_way(model: ServingModel) -> None:
    served = Served(model=model, version="v1")
    way = whole_way(served)
    body = json.dumps(table(model.task).drop("target").to_dicts()).encode()
    found: list[Any] = []

    def ask() -> None:
        found.extend(way.answer(body, "one") for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    answers = [each[0] for each in found if each is not None]
    assert len(found) == 40
    assert set(answers) == {long_answer(asked(body), served, None).body}


def test_dates_and_steps_that_only_python_knows_go_the_whole_way(tmp_path: Path) -> None:
    rows = table("regression").with_columns(
        sold=pl.Series([date(2024, 1, 1) + timedelta(days=3 * n) for n in range(200)])
    )
    model = model_of("regression", "linear-learner", tmp_path, rows=rows)
    served = Served(model=model, version="v1")
    logs = CaptureLog(tmp_path / "whole"), CaptureLog(tmp_path / "long")
    way = whole_way(served, logs[0])
    plain = rows.drop("target").head(40).to_dicts()
    bodies = [msgspec.json.encode(each) for each in (*plain, plain)]

    found = [way.answer(body, "one") for body in bodies]

    assert [each and each[0] for each in found] == [
        long_answer(asked(body), served, logs[1]).body for body in bodies
    ]
    assert lines(logs[0]) == lines(logs[1])
    assert way.answer(bodies[0].replace(b"2024-", b"2024/"), "one") is None
    for log in logs:
        log.close()


def test_no_memory_is_left_behind(model: ServingModel) -> None:
    import tracemalloc

    way = whole_way(Served(model=model, version="v1"))
    bodies = [ROW, ROW[:-1], ROW.replace(b"Ulm", b" Ulm "), b"[" + b",".join([ROW] * 20) + b"]"]
    for body in bodies * 20:
        way.answer(body, "one")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for body in bodies * 200:
        way.answer(body, "one")

    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000


def test_numbers_of_any_kind_are_written_as_msgspec_writes_them(tmp_path: Path) -> None:
    model = model_of("regression", "linear-learner", tmp_path)
    log = CaptureLog(tmp_path / "whole")
    way = whole_way(Served(model=model, version=1), log)
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**63, 3000, dtype=np.int64).view(np.float64)
    numbers = [float(x) for x in bits if np.isfinite(x) and abs(x) < 1e40]
    numbers += [float(f"{x:.{n}g}") for n in range(1, 18) for x in rng.lognormal(0, 9, 60).tolist()]
    rows = [{"size": x, "town": "Ulm", "has_garden": True, "rooms": 1} for x in numbers]

    kept = []
    for row in rows:
        if way.answer(json.dumps(row).encode(), "one") is not None:
            kept.append(row["size"])

    texts = [line.partition(b'"size":')[2].partition(b",")[0] for line in lines(log)]
    assert len(texts) > 1000
    assert texts == [msgspec.json.encode(x) for x in kept]
    log.close()
