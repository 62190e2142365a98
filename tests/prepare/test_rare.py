from __future__ import annotations

import zlib
from typing import Any

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    GroupRare,
    Hash,
    OneHot,
    Recipe,
    fit_recipe,
)


def features(frame: pl.DataFrame, *steps: Any) -> tuple[tuple[str, ...], list[list[float]]]:
    fitted, found = fit_recipe(Recipe(steps), frame, None, seed=0)
    return fitted.feature_names, found.tolist()


def test_rare_and_unseen_levels_become_one() -> None:
    frame = pl.DataFrame({"c": ["a"] * 5 + ["b"] * 4 + ["x", None]})
    recipe = Recipe((GroupRare(columns=("c",), min_share=0.2), OneHot(columns=("c",))))
    fitted, _ = fit_recipe(recipe, frame, None, seed=0)

    found = fitted.transform(pl.DataFrame({"c": ["a", "x", "never seen", None]}))

    assert fitted.feature_names == ("c=a", "c=b", "c=other", "c=missing")
    assert found.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_only_the_most_frequent_levels_stay() -> None:
    frame = pl.DataFrame({"c": ["a", "b", "b", "c"]})

    names, _ = features(
        frame, GroupRare(columns=("c",), min_share=0.0, max_levels=1), OneHot(columns=("c",))
    )

    assert names == ("c=b", "c=other")


def test_a_hash_is_the_checksum_of_the_bytes() -> None:
    frame = pl.DataFrame({"c": ["Grün", "rot", None]})

    names, found = features(frame, Hash(columns=("c",), n_features=4))

    assert names == ("c#0", "c#1", "c#2", "c#3")
    for row, level in zip(found[:2], ("Grün", "rot"), strict=True):
        number = zlib.crc32(level.encode())
        expected = [0.0] * 4
        expected[number % 4] = -1.0 if number >> 31 else 1.0
        assert row == expected
    assert found[2] == [0.0] * 4


def test_one_bucket_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="n_features is 1"):
        features(pl.DataFrame({"c": ["a"]}), Hash(columns=("c",), n_features=1))
