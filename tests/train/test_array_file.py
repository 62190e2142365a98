"""Array files come back as they were, and hostile ones are refused before they cost anything."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.train.array_file import open_arrays, pack_arrays
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.predictor_file import open_predictor, pack_predictor


def npy(shape: str, body: bytes, descr: str = "'<f8'", order: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return buffer.getvalue()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.floats(), max_size=8), min_size=1))
def test_arrays_come_back_bit_by_bit(values: dict[str, list[float]]) -> None:
    arrays = {name: np.array(one) for name, one in values.items()}

    opened = open_arrays(pack_arrays(arrays), what="x.npz")

    assert {name: one.tobytes() for name, one in opened.items()} == {
        name: one.tobytes() for name, one in arrays.items()
    }


def test_the_same_arrays_give_the_same_bytes_in_any_order() -> None:
    a, b = np.arange(3.0), np.eye(2, dtype=np.int32)

    assert pack_arrays({"a": a, "b": b}) == pack_arrays({"b": b, "a": a})


def test_numpy_reads_the_file_too() -> None:
    data = pack_arrays({"a": np.arange(6.0).reshape(2, 3)})

    with np.load(io.BytesIO(data), allow_pickle=False) as opened:
        assert (opened["a"] == np.arange(6.0).reshape(2, 3)).all()


HOSTILE: dict[str, bytes] = {
    "no archive": b"PK\x03\x04 nothing",
    "nothing": b"",
    "cut off": pack_arrays({"a": np.arange(100.0)})[:-200],
    "compressed": archive({"a.npy": npy("(1,)", bytes(8))}, zipfile.ZIP_DEFLATED),
    "a shape beyond the bytes": archive({"a.npy": npy("(10**9,)", bytes(8))}),
    "a huge shape": archive({"a.npy": npy(f"({2**62},)", bytes(8))}),
    "a negative shape": archive({"a.npy": npy("(-1,)", bytes(8))}),
    "two negative sizes": archive({"a.npy": npy("(-1, -1)", bytes(8))}),
    "too few bytes": archive({"a.npy": npy("(2,)", bytes(8))}),
    "too many bytes": archive({"a.npy": npy("(1,)", bytes(16))}),
    "many dimensions": archive({"a.npy": npy("(1, 1, 1, 1)", bytes(8))}),
    "objects": archive({"a.npy": npy("(1,)", b"\x80\x04N.", descr="'|O'")}),
    "a structure": archive({"a.npy": npy("(1,)", bytes(8), descr="[('x', '<f8')]")}),
    "text": archive({"a.npy": npy("(1,)", bytes(8), descr="'<U2'")}),
    "the other byte order": archive({"a.npy": npy("(1,)", bytes(8), descr="'>f8'")}),
    "columns first": archive({"a.npy": npy("(1, 1)", bytes(8), order="True")}),
    "a header that is code": archive({"a.npy": npy("(__import__('os').getpid(),)", bytes(8))}),
    "a pickle": archive({"a.pkl": b"cos\nsystem\n(S'true'\ntR."}),
    "a pickle that says it is an array": archive({"a.npy": b"cos\nsystem\n(S'true'\ntR."}),
    "an odd name": archive({"../a.npy": npy("(1,)", bytes(8))}),
    "many arrays": archive({f"a{i}.npy": npy("(0,)", b"") for i in range(8_200)}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str) -> None:
    with pytest.raises(InvalidInputError, match="not an array file that can be trusted"):
        open_arrays(HOSTILE[case], what="x.npz")


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": 2, "kind": "linear", "link": "identity"}',
        b'{"format": 1, "kind": "pickle", "link": "identity"}',
        b'{"format": 1, "kind": ["linear"], "link": "identity"}',
        b'{"format": 1, "kind": "linear", "link": "eval"}',
        b'{"format": 1, "kind": "trees", "link": "identity"}',
        b'{"format": 1, "kind": "knn", "link": "identity", "n_neighbors": {}}',
    ],
)
def test_a_predictor_with_a_broken_description_is_refused(meta: bytes) -> None:
    predictor = LinearPredictor(coefficients=np.ones((1, 2)), intercepts=np.zeros(1))
    arrays = pack_predictor(predictor)["predictor.npz"]

    with pytest.raises(InvalidInputError):
        open_predictor(arrays, meta)
