"""The rows of a channel as XGBoost's matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xgboost

_CSV = frozenset({"csv", "text/csv"})
_LIBSVM = frozenset({"libsvm", "text/libsvm", "text/x-libsvm"})
_PARQUET = frozenset({"parquet", "application/x-parquet"})


def get_content_type(content_type_cfg_val: str | None) -> str:
    """Return `csv`, `libsvm` or `parquet`; libsvm where nothing is said.

    Raises
    ------
    ValueError
        If it is another media type.
    """
    kind = (content_type_cfg_val or "libsvm").partition(";")[0].strip().lower()
    for name, known in (("csv", _CSV), ("libsvm", _LIBSVM), ("parquet", _PARQUET)):
        if kind in known:
            return name
    raise ValueError(f"{content_type_cfg_val!r} is no media type that can be read here")


def get_dmatrix(
    data_path: Any, content_type: str, csv_weights: int = 0, is_pipe: bool = False
) -> Any:
    """Return the rows of a file or of all files of a folder; None where there are none.

    Parameters
    ----------
    data_path
        A path, or several.
    content_type
        What they are; the target stands first.
    csv_weights
        1 if the second column of CSV holds weights.
    is_pipe
        Not supported; channels are files.
    """
    if is_pipe:
        raise ValueError("channels are files here, not pipes")
    given = data_path if isinstance(data_path, (list, tuple)) else [data_path]
    files = [file for each in given if each for file in _files(Path(each))]
    if not files:
        return None
    kind = get_content_type(content_type)
    if kind == "libsvm":
        return _of_libsvm(files)
    tables = [_table(file, kind) for file in files]
    table = np.vstack(tables)
    if csv_weights and kind == "csv":
        return xgboost.DMatrix(table[:, 2:], label=table[:, 0], weight=table[:, 1])
    return xgboost.DMatrix(table[:, 1:], label=table[:, 0])


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(
        file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
    )


def _table(file: Path, kind: str) -> Any:
    if kind == "parquet":
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(file)
        return np.column_stack([column.to_numpy() for column in read.columns])
    return np.loadtxt(file, delimiter=",", ndmin=2, converters=_number, encoding="utf-8")


def _number(text: str) -> float:
    return float(text) if text.strip() else float("nan")


def _of_libsvm(files: list[Path]) -> Any:
    from sklearn.datasets import load_svmlight_files

    found = load_svmlight_files([str(file) for file in files], zero_based=True)
    from scipy.sparse import vstack

    return xgboost.DMatrix(vstack(found[::2]).tocsr(), label=np.concatenate(found[1::2]))
