"""The rows of a channel: CSV with the target first, libsvm, Parquet, recordio-protobuf."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.record_io import read_records

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_LONGEST_ROW = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Features `(n_rows, n_features)`, targets and weights `(n_rows,)`."""

    X: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64] | None = None


def read_channel(folder: Path, content_type: str, *, has_weights: bool = False) -> Rows:
    """Return the rows of all files of a channel, one after the other.

    Parameters
    ----------
    content_type
        What they are; of files whose type is not told, the name says it.
    has_weights
        Whether the second column of CSV holds weights.

    Raises
    ------
    InvalidInputError
        If a file cannot be read, or the files do not go together.
    """
    paths = sorted(each for each in folder.rglob("*") if each.is_file())
    parts = [_read(path, content_type, has_weights) for path in paths]
    parts = [each for each in parts if each.X.size]
    if not parts:
        raise _unusable(f"The channel {folder.name!r} has no rows.")
    width = max(each.X.shape[1] for each in parts)
    wide = [_widened(each.X, width) for each in parts]
    weights = [each.weight for each in parts if each.weight is not None]
    return Rows(
        X=np.concatenate(wide),
        y=np.concatenate([each.y for each in parts]),
        weight=np.concatenate(weights) if weights else None,
    )


def _widened(X: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    return np.pad(X, ((0, 0), (0, width - X.shape[1])), constant_values=np.nan)


def _read(path: Path, content_type: str, has_weights: bool) -> Rows:
    kind = content_type.partition(";")[0].strip().lower() or _kind_of(path)
    if kind in ("text/csv", "csv"):
        return _csv(path, has_weights)
    if kind in ("text/libsvm", "text/x-libsvm", "libsvm"):
        return _libsvm(path)
    if kind in ("application/x-parquet", "parquet"):
        frame = pl.read_parquet(path)
        return _of_table(frame, path, has_weights)
    if kind in ("application/x-recordio-protobuf", "recordio-protobuf"):
        X, y = read_records(_content(path))
        if y is None:
            raise _unusable(f"The records in {path.name} have no labels.")
        return Rows(X=X, y=y)
    raise _unusable(f"The content type {content_type!r} is not read here.")


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x0a\x23\xd7\xce"):
        return "recordio-protobuf"
    first = head.split(b"\n", 1)[0]
    return "libsvm" if b":" in first and b"," not in first else "text/csv"


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _csv(path: Path, has_weights: bool) -> Rows:
    import io

    try:
        frame = pl.read_csv(
            io.BytesIO(_content(path)),
            has_header=False,
            infer_schema=False,
            truncate_ragged_lines=False,
        )
    except pl.exceptions.PolarsError as error:
        if not path.stat().st_size:
            return Rows(X=np.zeros((0, 0)), y=np.zeros(0))
        raise _unusable(f"{path.name} is no CSV: {error}.") from error
    numbers = frame.with_columns(
        pl.all().str.strip_chars().replace("", None).cast(pl.Float64, strict=False)
    )
    for name in frame.columns:
        bad = (numbers[name].is_null() & frame[name].is_not_null() & (frame[name] != "")).arg_true()
        if len(bad):
            value = frame[name][int(bad[0])]
            raise _unusable(
                f"{path.name} has {value[:40]!r} in row {int(bad[0]) + 1}, which is no number. "
                "Files have no header, and the target is the first column."
            )
    return _of_table(numbers, path, has_weights)


def _of_table(frame: pl.DataFrame, path: Path, has_weights: bool) -> Rows:
    if frame.width < 2 + has_weights:
        raise _unusable(f"{path.name} has {frame.width} columns; the first is the target.")
    table = frame.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    start = 1 + has_weights
    return Rows(
        X=np.ascontiguousarray(table[:, start:]),
        y=table[:, 0].copy(),
        weight=table[:, 1].copy() if has_weights else None,
    )


def _libsvm(path: Path) -> Rows:
    labels: list[float] = []
    weights: list[float] = []
    cells: list[tuple[int, int, float]] = []
    width = 0
    for number, line in enumerate(_content(path).decode().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        label, _, weight = words[0].partition(":")
        try:
            labels.append(float(label))
            if weight:
                weights.append(float(weight))
            for word in words[1:]:
                index, _, value = word.partition(":")
                if index == "qid":
                    raise ValueError("groups are not supported")
                column = int(index)
                if not 0 <= column < _LONGEST_ROW:
                    raise ValueError(f"the index {column}")
                width = max(width, column + 1)
                cells.append((len(labels) - 1, column, float(value)))
        except ValueError as error:
            raise _unusable(f"{path.name} is no libsvm in line {number}: {error}.") from error
    if len(labels) * width > 1 << 28:
        raise _unusable(f"{path.name} is too wide to be filled up: {len(labels)} x {width} cells.")
    # what is left out is missing to the boosting libraries, as it is for SageMaker's XGBoost
    X = np.full((len(labels), width), np.nan)
    if cells:
        places = np.array([(row, column) for row, column, _ in cells])
        X[places[:, 0], places[:, 1]] = [value for _, _, value in cells]
    return Rows(X=X, y=np.array(labels), weight=np.array(weights) if weights else None)


def _unusable(message: str) -> InvalidInputError:
    return InvalidInputError(
        message, hint="See the input formats of the algorithm.", field="InputDataConfig"
    )
