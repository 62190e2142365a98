from __future__ import annotations

import zlib

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Recipe, TextVector, fit_recipe

TEXTS = ["The cat sat", "the CAT ran away", "a dog ran", "Über das Meer", "über das Land", ""]
FRAME = pl.DataFrame({"t": TEXTS})


@pytest.mark.parametrize("words", [1, 2])
def test_weights_agree_with_scikit_learn(words: int) -> None:
    theirs = TfidfVectorizer(ngram_range=(1, words), min_df=2)
    reference = theirs.fit_transform(TEXTS).toarray()

    fitted, found = fit_recipe(
        Recipe((TextVector(columns=("t",), words=words),)), FRAME, None, seed=0
    )

    assert fitted.feature_names == tuple(f"t~{term}" for term in theirs.get_feature_names_out())
    np.testing.assert_allclose(found, reference, atol=1e-12)


def test_the_most_common_terms_are_kept() -> None:
    frame = pl.DataFrame({"t": ["aa bb cc", "aa bb cc", "aa bb", "aa"]})

    fitted, _ = fit_recipe(Recipe((TextVector(columns=("t",), n_features=2),)), frame, None, seed=0)

    assert fitted.feature_names == ("t~aa", "t~bb")


def test_pieces_of_words_tell_misspelled_words_are_alike() -> None:
    step = TextVector(columns=("t",), method="hashed", n_features=500, characters=True)
    frame = pl.DataFrame({"t": ["delivery", "delivrey", "quality", None]})

    _, found = fit_recipe(Recipe((step,)), frame, None, seed=0)

    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
    assert np.linalg.norm(found, axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0])


def test_hashes_are_the_same_everywhere() -> None:
    step = TextVector(columns=("t",), method="hashed", n_features=10)

    _, found = fit_recipe(Recipe((step,)), pl.DataFrame({"t": ["cat", "dog"]}), None, seed=0)

    for row, word in zip(found, (b"cat", b"dog"), strict=True):
        number = zlib.crc32(word)
        assert row[number % 10] == (-1.0 if number >> 31 else 1.0)


def test_too_many_features_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 to 2,000 features"):
        fit_recipe(Recipe((TextVector(columns=("t",), n_features=2_001),)), FRAME, None, seed=0)
