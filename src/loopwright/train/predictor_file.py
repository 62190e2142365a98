"""Predictors as files: `predictor.npz` with the arrays, `predictor.json` with the rest."""

from __future__ import annotations

import json
from typing import Any

from loopwright.core.digest import canonical_json
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train.array_file import open_arrays, pack_arrays
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import checked_link
from loopwright.train.predictor import Predictor
from loopwright.train.trees_predictor import TreesPredictor

ARRAYS_MEMBER = "predictor.npz"
META_MEMBER = "predictor.json"
PREDICTORS: dict[str, Any] = {
    "linear": LinearPredictor,
    "knn": KnnPredictor,
    "trees": TreesPredictor,
}
_FORMAT = 1
_MAX_META_BYTES = 1 << 16


def pack_predictor(predictor: Predictor) -> dict[str, bytes]:
    """Return the files of a predictor by name; the same bytes for the same predictor."""
    kind = next(name for name, cls in PREDICTORS.items() if type(predictor) is cls)
    meta = {"format": _FORMAT, "kind": kind, "link": predictor.link, **predictor.meta()}
    return {ARRAYS_MEMBER: pack_arrays(predictor.arrays()), META_MEMBER: canonical_json(meta)}


def open_predictor(arrays: bytes, meta: bytes) -> Predictor:
    """Return the predictor in the bytes of its two files, which may come from anywhere.

    Raises
    ------
    InvalidInputError
        If the format is unknown, or an array, an index or a number is not what it must be.
    """
    content = _meta(meta)
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in PREDICTORS:
        raise InvalidInputError(
            f"No predictor is of kind {str(kind)[:80]!r}.",
            hint=did_you_mean(str(kind)[:80], PREDICTORS),
            field="kind",
            value=str(kind)[:80],
        )
    try:
        predictor: Predictor = PREDICTORS[kind].from_parts(
            open_arrays(arrays, what=ARRAYS_MEMBER), content, checked_link(content["link"])
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InvalidInputError(
            f"{META_MEMBER} and {ARRAYS_MEMBER} do not make a predictor: {error!r}.",
            hint="Train the model again, or fetch the file again.",
            field=META_MEMBER,
        ) from error
    return predictor


def _meta(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data) if len(data) <= _MAX_META_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not {"format", "kind", "link"} <= content.keys():
        raise InvalidInputError(
            f"{META_MEMBER} does not say what the predictor is.",
            hint="It holds a JSON object with format, kind and link.",
            field=META_MEMBER,
        )
    if content["format"] != _FORMAT:
        raise InvalidInputError(
            f"{META_MEMBER} has format {str(content['format'])[:40]!r}; this loopwright reads "
            f"format {_FORMAT}.",
            hint="Open it with the loopwright that wrote it, or a later one.",
            field="format",
        )
    return content
