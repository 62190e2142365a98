"""Predictors as files: `predictor.npz` with the arrays, `predictor.json` with the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import canonical_json
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train.array_file import open_arrays, pack_arrays
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import checked_link
from loopwright.train.network_predictor import NetworkPredictor
from loopwright.train.plugin import (
    PREDICTOR_GROUP,
    loaded_predictor,
    plugin_package,
    predictor_plugins,
)
from loopwright.train.predictor import Predictor
from loopwright.train.stack_predictor import StackPredictor
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ARRAYS_MEMBER = "predictor.npz"
META_MEMBER = "predictor.json"
PREDICTORS: dict[str, Any] = {
    "linear": LinearPredictor,
    "knn": KnnPredictor,
    "trees": TreesPredictor,
    "symmetric-trees": SymmetricTreesPredictor,
    "network": NetworkPredictor,
    "blend": BlendPredictor,
    "stack": StackPredictor,
}
_FORMAT = 1
_MAX_META_BYTES = 1 << 20


def pack_predictor(predictor: Predictor) -> dict[str, bytes]:
    """Return the files of a predictor by name; the same bytes for the same predictor."""
    meta = {"format": _FORMAT, **predictor_meta(predictor)}
    return {ARRAYS_MEMBER: pack_arrays(predictor.arrays()), META_MEMBER: canonical_json(meta)}


def predictor_meta(predictor: Predictor) -> dict[str, Any]:
    """Return what is stored of a predictor beside its arrays, as JSON types."""
    more = {}
    kind = next((name for name, cls in PREDICTORS.items() if type(predictor) is cls), None)
    if kind is None:
        kind, package = _plugin_of(type(predictor))
        more = {"package": package}
    return {**predictor.meta(), "kind": kind, "link": predictor.link, **more}


def _plugin_of(cls: type) -> tuple[str, str]:
    for name, plugin in predictor_plugins().items():
        # compared by name first: nothing is imported that is not the one
        if plugin.attr == cls.__qualname__ and loaded_predictor(plugin) is cls:
            return name, plugin_package(plugin)
    raise BackendError(
        f"The model answers by {cls.__module__}.{cls.__qualname__}, which is no kind of predictor "
        "that a bundle can hold.",
        hint=f"Return one of loopwright's predictors ({', '.join(PREDICTORS)}), or register the "
        f"class as an entry point of the group {PREDICTOR_GROUP}.",
        predictor=cls.__qualname__,
    )


def _class_of(kind: object, content: Mapping[str, Any]) -> Any:
    if isinstance(kind, str) and kind in PREDICTORS:
        return PREDICTORS[kind]
    plugins = predictor_plugins()
    if isinstance(kind, str) and kind in plugins:
        return loaded_predictor(plugins[kind])
    package = content.get("package")
    raise InvalidInputError(
        f"No predictor is of kind {str(kind)[:80]!r}.",
        hint=f"The model was packed with {str(package)[:80]!r}; install that package here, and "
        "wherever the model is served."
        if package
        else did_you_mean(str(kind)[:80], [*PREDICTORS, *plugins]),
        field="kind",
        value=str(kind)[:80],
    )


def predictor_of(
    arrays: Mapping[str, npt.NDArray[np.generic]], content: Mapping[str, Any]
) -> Predictor:
    """Return the predictor that some arrays and `predictor_meta` make; both are checked.

    Raises
    ------
    InvalidInputError
        If the kind is unknown, or they do not make a predictor.
    """
    cls = _class_of(content["kind"], content)
    try:
        predictor: Predictor = cls.from_parts(arrays, content, checked_link(content["link"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InvalidInputError(
            f"{META_MEMBER} and {ARRAYS_MEMBER} do not make a predictor: {error!r}.",
            hint="Train the model again, or fetch the file again.",
            field=META_MEMBER,
        ) from error
    return predictor


def open_predictor(arrays: bytes, meta: bytes) -> Predictor:
    """Return the predictor in the bytes of its two files, which may come from anywhere.

    Raises
    ------
    InvalidInputError
        If the format is unknown, or an array, an index or a number is not what it must be.
    """
    return predictor_of(open_arrays(arrays, what=ARRAYS_MEMBER), _meta(meta))


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
