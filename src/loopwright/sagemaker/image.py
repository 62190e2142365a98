"""What stands behind the URI of an image: an algorithm of ours, or a framework for a script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from loopwright.sagemaker.error import ApiError

_URI = re.compile(r"(?:[^/]+/)*([^/:@]+)(?::([^@]+))?(?:@.+)?")
_VERSION = re.compile(r"(\d+)\.(\d+)-(\d+)")
_ALGORITHMS = {
    "sagemaker-xgboost": "xgboost",
    "xgboost": "xgboost",
    "linear-learner": "linear-learner",
    "knn": "knn",
    "lightgbm": "lightgbm",
    "sagemaker-lightgbm": "lightgbm",
}
_NOT_YET = frozenset(
    {
        "blazingtext",
        "factorization-machines",
        "forecasting-deepar",
        "image-classification",
        "ipinsights",
        "kmeans",
        "lda",
        "ntm",
        "object-detection",
        "object2vec",
        "pca",
        "randomcutforest",
        "semantic-segmentation",
        "seq2seq",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: `algorithm` is the one of ours, empty for a framework."""

    repository: str
    tag: str
    kind: Literal["algorithm", "framework"]
    algorithm: str = ""


def image_of(uri: str) -> Image:
    """Return what an image URI means here; its registry host says nothing.

    Raises
    ------
    ApiError
        If it is an algorithm that is not here.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ApiError("ValidationException", f"{uri[:200]!r} is no image URI.")
    repository, tag = match[1], match[2] or "latest"
    if repository in _NOT_YET:
        raise ApiError(
            "ValidationException",
            f"The algorithm {repository!r} is not supported yet by loopwright; there are "
            f"{', '.join(sorted(set(_ALGORITHMS.values())))}.",
        )
    algorithm = _ALGORITHMS.get(repository, "")
    kind: Literal["algorithm", "framework"] = "algorithm" if algorithm else "framework"
    return Image(repository=repository, tag=tag, kind=kind, algorithm=algorithm)


def is_before(tag: str, version: tuple[int, ...]) -> bool:
    """Return whether the tag of an XGBoost image is of an earlier version.

    `1` and `latest` are 0.72; no tag at all says nothing.
    """
    if tag in ("1", "latest"):
        return True
    found = _VERSION.match(tag)
    return found is not None and tuple(int(each) for each in found.groups()) < version
