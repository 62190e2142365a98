"""The binary format in which XGBoost before 3.1 could leave a model, as the JSON that all read.

The layout is that of XGBoost's `learner.cc`, `gbtree_model.h` and `tree_model.h` of versions 0.72 to 1.7:
little-endian structures one after the other, without names.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from loopwright.core.errors import InvalidInputError

_MAGIC = b"binf"
# base score, features, classes, two flags, version, and room for later
_LEARNER = struct.Struct("<fIiiiII108x")
# trees, roots, features, padding, a buffer, outputs, size of a leaf, and room for later
_BOOSTER = struct.Struct("<iiiiqii128x")
# roots, nodes, deleted ones, depth, features, size of a leaf, and room for later
_TREE = struct.Struct("<iiiiii124x")
# parent, left, right, feature with its direction, threshold or value
_NODE = struct.Struct("<iiiIf")
# gain, sum of second derivatives, value, leaves
_STATISTIC = struct.Struct("<fffi")
_LENGTH = struct.Struct("<Q")
_INT = struct.Struct("<i")
_MOST_TREES, _MOST_NAME = 1_000_000, 64
_DIRECTION, _NO_PARENT = 1 << 31, 2_147_483_647
_SIGMOIDS = frozenset({"binary:logistic", "reg:logistic"})
_LOGARITHMS = frozenset({"count:poisson", "reg:gamma", "reg:tweedie"})
_PARAMETERS: dict[str, tuple[str, dict[str, str]]] = {
    "count:poisson": ("poisson_regression_param", {"max_delta_step": "0.7"}),
    "reg:tweedie": ("tweedie_regression_param", {"tweedie_variance_power": "1.5"}),
}


class _Reader:
    """Takes structures from the front of some bytes, and never more than there are."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def take(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= len(self._data) - self.place:
            raise InvalidInputError(
                f"The file is no XGBoost model, or a torn one: it ends at byte {len(self._data)}.",
                hint="Save it again with a recent XGBoost: booster.save_model('xgboost-model').",
            )
        self.place += n_bytes
        return self._data[self.place - n_bytes : self.place]

    def one(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def text(self) -> str:
        (length,) = self.one(_LENGTH)
        if length > _MOST_NAME:
            raise _unreadable(f"a name of {length} bytes")
        return self.take(length).decode("ascii", "replace")


def json_of_binary(data: bytes) -> dict[str, Any]:
    """Return a model of the old binary format in the layout of XGBoost's JSON.

    Parameters
    ----------
    data
        A file of `save_model`, or what `save_raw` returned, of XGBoost 0.72 to 1.7.

    Raises
    ------
    InvalidInputError
        If it is torn, no such model, or not made of plain trees.
    """
    reader = _Reader(data.removeprefix(_MAGIC))
    score, n_features, n_classes, _, _, major, _ = reader.one(_LEARNER)
    objective, booster = reader.text(), reader.text()
    if booster != "gbtree":
        raise _unreadable(f"the booster {booster!r}; only gbtree can be served")
    n_trees, _, _, _, _, _, leaf_size = reader.one(_BOOSTER)
    if not 0 <= n_trees <= _MOST_TREES or leaf_size:
        raise _unreadable(f"{n_trees} trees with leaves of {leaf_size} numbers")
    trees = [_tree(reader, place, n_features) for place in range(n_trees)]
    groups = [reader.one(_INT)[0] for _ in range(n_trees)]
    if any(not 0 <= group < max(n_classes, 1) for group in groups):
        raise _unreadable("trees of classes that it does not have")
    if not major:
        score = _answer(score, objective)
    objective = "reg:squarederror" if objective == "reg:linear" else objective
    return {
        "version": [1, 7, 0],
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {"num_trees": str(n_trees), "num_parallel_tree": "1"},
                    "tree_info": groups,
                    "trees": trees,
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": repr(float(score)),
                "boost_from_average": "1",
                "num_class": str(n_classes),
                "num_feature": str(n_features),
                "num_target": "1",
            },
            "objective": _objective(objective, n_classes),
        },
    }


def _objective(name: str, n_classes: int) -> dict[str, Any]:
    if name.startswith("multi:"):
        return {"name": name, "softmax_multiclass_param": {"num_class": str(n_classes)}}
    title, parameters = _PARAMETERS.get(name, ("reg_loss_param", {"scale_pos_weight": "1"}))
    return {"name": name, title: parameters}


def _answer(margin: float, objective: str) -> float:
    """Return what a margin says: versions before 1.0 wrote the base score as a margin."""
    if objective in _SIGMOIDS:
        return 1.0 / (1.0 + math.exp(-margin))
    return math.exp(margin) if objective in _LOGARITHMS else margin


def _tree(reader: _Reader, place: int, n_features: int) -> dict[str, Any]:
    _, n_nodes, _, _, _, leaf_size = reader.one(_TREE)
    if n_nodes < 1 or leaf_size:
        raise _unreadable(f"a tree of {n_nodes} nodes with leaves of {leaf_size} numbers")
    raw, said = reader.take(n_nodes * _NODE.size), reader.take(n_nodes * _STATISTIC.size)
    nodes = list(_NODE.iter_unpack(raw))
    statistics = list(_STATISTIC.iter_unpack(said))
    kept = _reachable(nodes, n_features)
    number = {old: new for new, old in enumerate(kept)}
    parents = {child: old for old in kept for child in nodes[old][1:3] if nodes[old][1] != -1}
    is_leaf = [nodes[old][1] == -1 for old in kept]
    return {
        "base_weights": [statistics[old][2] for old in kept],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": [int(nodes[old][3] >= _DIRECTION) for old in kept],
        "id": place,
        "left_children": [number.get(nodes[old][1], -1) for old in kept],
        "loss_changes": [statistics[old][0] for old in kept],
        "parents": [number[parents[old]] if old in parents else _NO_PARENT for old in kept],
        "right_children": [number.get(nodes[old][2], -1) for old in kept],
        "split_conditions": [nodes[old][4] for old in kept],
        "split_indices": [
            0 if leaf else nodes[old][3] % _DIRECTION
            for old, leaf in zip(kept, is_leaf, strict=True)
        ],
        "split_type": [0] * len(kept),
        "sum_hessian": [statistics[old][1] for old in kept],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(n_features),
            "num_nodes": str(len(kept)),
            "size_leaf_vector": "1",
        },
    }


def _reachable(nodes: list[tuple[Any, ...]], n_features: int) -> list[int]:
    """Return the nodes that the root leads to, without those that pruning left behind."""
    kept, seen = [0], {0}
    for old in kept:
        _, left, right, split, value = nodes[old]
        if not math.isfinite(value):
            raise _unreadable("a number that is none")
        if left == -1:
            continue
        for child in (left, right):
            if not 0 <= child < len(nodes) or child in seen:
                raise _unreadable("a tree that is none")
            kept.append(child)
            seen.add(child)
        if split % _DIRECTION >= n_features:
            raise _unreadable("a split of a feature that it does not have")
    return kept


def _unreadable(what: str) -> InvalidInputError:
    return InvalidInputError(
        f"The XGBoost model cannot be read: it has {what}.",
        hint="Save it again with a recent XGBoost: booster.save_model('xgboost-model').",
    )
