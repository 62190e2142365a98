from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import PreparePlan, Recipe, RowEncoder, fit_recipe, suggest

N = 400
_RNG = np.random.default_rng(7)


def houses() -> pl.DataFrame:
    size = _RNG.lognormal(7, 1, size=N)
    sold = [date(2024, 1, 1) + timedelta(days=int(i)) for i in _RNG.integers(0, 700, size=N)]
    return pl.DataFrame(
        {
            "id": np.arange(N) + 1_000,
            "price": size * 3,
            "size": size,
            "size_again": size,
            "lot": [None if i % 9 == 0 else float(i % 17) for i in range(N)],
            "zipcode": 98_000 + _RNG.integers(0, 30, size=N),
            "view": _RNG.choice(["sea", "hill", "none"], size=N),
            "street": _RNG.choice([f"street {i}" for i in range(40)], size=N),
            "note": ["a long text about this house, which nobody will ever read"] * (N - 1) + ["b"],
            "country": ["US"] * N,
            "sold": sold,
            "new": _RNG.random(N) < 0.5,
            "tags": [[1]] * N,
            "latitude": 47 + _RNG.random(N),
            "longitude": -122 + _RNG.random(N),
        },
        strict=False,
    )


HOUSES = houses()


def steps(recipe: Recipe) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, columns, _ in recipe.explain():
        found.setdefault(name, []).extend(columns)
    return found


def fitted_on(recipe: Recipe, **options: Any) -> Any:
    target = np.log(HOUSES["price"].to_numpy())
    return fit_recipe(recipe, HOUSES.drop("price"), target, seed=7, **options)


@pytest.mark.parametrize("family", ["scaled", "tree"])
@pytest.mark.parametrize("variant", ["plain", "places"])
def test_a_suggestion_can_be_fitted_and_serves_the_same_rows(family: Any, variant: Any) -> None:
    recipe = suggest(HOUSES, "price", "regression", family=family, variant=variant)

    fitted, found = fitted_on(recipe)
    rows = HOUSES.drop("price").to_dicts()

    assert len(found) == N
    assert fitted.transform(HOUSES).tobytes() == RowEncoder(fitted).encode(rows).tobytes()


def test_columns_that_tell_nothing_are_dropped_with_a_reason() -> None:
    recipe = suggest(HOUSES, "price", "regression", family="tree")

    reasons = {c: reason for name, cs, reason in recipe.explain() if name == "drop" for c in cs}

    assert set(reasons) == {"id", "size_again", "note", "country", "tags"}
    assert reasons["size_again"] == "the same values as size"
    assert reasons["country"] == "always 'US'"
    assert "400 different values" in reasons["id"]


def test_every_step_has_a_reason() -> None:
    recipe = suggest(HOUSES, "price", "regression", family="scaled", variant="places")

    assert all(reason for _, _, reason in recipe.explain())


def test_trees_get_no_scaling_and_keep_gaps() -> None:
    recipe = suggest(HOUSES, "price", "regression", family="tree")

    fitted, found = fitted_on(recipe)

    assert not {"scale", "impute", "log1p"} & set(steps(recipe))
    assert np.isnan(found[:, fitted.feature_names.index("lot")]).sum() == 45


def test_the_scaled_family_has_no_gaps_and_one_scale() -> None:
    recipe = suggest(HOUSES, "price", "regression", family="scaled")

    fitted, found = fitted_on(recipe)

    assert np.isfinite(found).all()
    assert "size" in steps(recipe)["log1p"]
    assert abs(found[:, fitted.feature_names.index("size")].std() - 1.0) < 1e-9
    assert "lot_missing" in fitted.feature_names


def test_few_levels_get_columns_and_many_the_mean_target() -> None:
    found = steps(suggest(HOUSES, "price", "regression", family="scaled"))

    assert found["one_hot"] == ["view"]
    assert sorted(found["target_encode"]) == ["street", "zipcode"]


def test_trees_see_codes_as_numbers_too() -> None:
    fitted, _ = fitted_on(suggest(HOUSES, "price", "regression", family="tree"))

    assert {"zipcode", "zipcode_target_mean"} <= set(fitted.feature_names)


def test_what_a_person_asks_for_overrules_the_suggestion() -> None:
    plan = PreparePlan(
        drop=("lot",),
        keep=("id", "note"),
        derive={"age": "days_between(sold, today())", "half": "lot / 2"},
    )
    today = date(2026, 1, 31)

    recipe = suggest(HOUSES, "price", "regression", plan, family="tree", today=today)
    fitted, _ = fitted_on(recipe, today=today)

    asked = [(name, cs) for name, cs, reason in recipe.explain() if "asked for" in reason]
    assert asked == [("derive", ("age",)), ("derive", ("half",)), ("drop", ("lot",))]
    assert {"age", "half", "id"} <= set(fitted.feature_names)
    assert "lot" not in fitted.feature_names
    assert any(name.startswith("note") for name in fitted.feature_names)


def test_without_auto_only_the_necessary_is_done() -> None:
    plan = PreparePlan(auto=False)

    recipe = suggest(HOUSES, "price", "regression", plan, family="scaled")
    fitted, _ = fitted_on(recipe)

    assert steps(recipe)["drop"] == ["tags"]
    assert "log1p" not in steps(recipe)
    assert "id" in fitted.feature_names


def test_kinds_that_were_found_before_are_followed_where_they_can_be() -> None:
    kinds = {
        "lot": "identifier",
        "tags": "identifier",
        "view": "number",
        "size": "number",
        "zipcode": "number",
    }

    found = steps(suggest(HOUSES, "price", "regression", family="tree", kinds=kinds))

    assert "lot" in found["drop"]
    assert "view" in found["one_hot"]
    assert "zipcode" in found["target_encode"]


def test_more_than_two_classes_get_a_share_each_and_many_none() -> None:
    few = HOUSES.with_columns(grade=pl.Series(np.arange(N) % 3))
    many = HOUSES.with_columns(grade=pl.Series(np.arange(N) % 30))

    recipe = suggest(few, "grade", "multiclass", family="tree")
    fitted, _ = fit_recipe(recipe, few.drop("grade"), few["grade"].to_numpy(), seed=0)

    assert {"street_share_of_0", "street_share_of_2"} <= set(fitted.feature_names)
    assert "target_encode" not in steps(suggest(many, "grade", "multiclass", family="tree"))
    assert "frequency" in steps(suggest(many, "grade", "multiclass", family="tree"))


def test_a_map_is_cut_into_cells_only_where_there_is_one() -> None:
    places = steps(suggest(HOUSES, "price", "regression", family="tree", variant="places"))
    without = HOUSES.drop("latitude")

    assert places["derive"] == ["area", "neighbourhood"]
    assert suggest(without, "price", "regression", family="tree", variant="places") == suggest(
        without, "price", "regression", family="tree"
    )


def test_the_target_is_no_feature_and_cannot_be_derived_from() -> None:
    plan = PreparePlan(derive={"leak": "price * 2"})

    with pytest.raises(InvalidInputError, match="no column 'price'"):
        suggest(HOUSES, "price", "regression", plan, family="tree")
    assert "price" not in str(suggest(HOUSES, "price", "regression", family="tree"))


def test_nothing_left_to_learn_from_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"prepare\.keep"):
        suggest(HOUSES.select("id", "price"), "price", "regression", family="tree")


def test_a_table_of_one_row_gets_a_recipe() -> None:
    row = HOUSES.head(1).drop("tags")

    recipe = suggest(row, "price", "regression", PreparePlan(auto=False), family="scaled")
    fitted, found = fit_recipe(recipe, row.drop("price"), np.array([1.0]), seed=0)

    assert found.shape == (1, len(fitted.feature_names))
    assert np.isfinite(found).all()


def bent() -> pl.DataFrame:
    rng = np.random.default_rng(11)
    n = 3_000
    hour = rng.integers(0, 24, size=n).astype(float)
    amount = rng.lognormal(3, 0.3, size=n)
    amount[:2] = 1e6
    kind = rng.choice([f"kind {k}" for k in range(20)], size=n)
    kind[:4] = ["rare 1", "rare 2", "rare 3", "rare 4"]
    job = rng.choice(["a", "b", "c"], size=n)
    pay = np.where(job == "a", 10.0, np.where(job == "b", 50.0, 90.0)) + rng.normal(size=n)
    pay[rng.random(n) < 0.1] = np.nan
    balance = rng.standard_t(2, size=n) ** 3
    y = np.sin(hour / 24 * 2 * np.pi) + 0.1 * rng.normal(size=n)
    frame = pl.DataFrame(
        {
            "hour": hour,
            "line": y + rng.normal(size=n),
            "amount": amount,
            "kind": kind,
            "job": job,
            "pay": pay,
            "balance": balance,
            "y": y,
        }
    )
    return frame.with_columns(pl.col("pay").fill_nan(None))


BENT = bent()


def test_linear_models_get_bins_where_the_relation_bends() -> None:
    recipe = suggest(BENT, "y", "regression", family="linear")

    reasons = {name: reason for name, _, reason in recipe.explain()}

    assert steps(recipe)["bin"] == ["hour_bin"]
    assert "hour" in reasons["bin"]
    assert "%" in reasons["bin"]
    assert "bin" not in steps(suggest(BENT, "y", "regression", family="scaled"))
    assert "bin" not in steps(suggest(BENT, "y", "regression", family="tree"))


def test_far_values_are_moved_nearer_for_linear_models_only() -> None:
    assert "amount" in steps(suggest(BENT, "y", "regression", family="linear"))["clip"]
    assert "clip" not in steps(suggest(BENT, "y", "regression", family="scaled"))


def test_long_tails_with_negative_values_get_a_power() -> None:
    found = steps(suggest(BENT, "y", "regression", family="scaled"))

    assert found["power"] == ["balance"]
    assert "balance" not in found.get("log1p", [])


def test_gaps_are_filled_from_the_category_that_explains_them_and_marked() -> None:
    recipe = suggest(BENT, "y", "regression", family="scaled")

    fitted, found = fit_recipe(recipe, BENT.drop("y"), BENT["y"].to_numpy(), seed=0)

    assert ("group_impute", ("pay",)) in [(name, columns) for name, columns, _ in recipe.explain()]
    assert "pay_missing" in fitted.feature_names
    assert np.isfinite(found).all()


def test_levels_with_rows_enough_get_a_column_each_and_rare_ones_share_one() -> None:
    linear = steps(suggest(BENT, "y", "regression", family="linear"))
    tree = steps(suggest(BENT, "y", "regression", family="tree"))

    assert linear["group_rare"] == ["kind"]
    assert "kind" in linear["one_hot"]
    assert tree["target_encode"] == ["kind"]


def test_without_auto_none_of_the_further_steps_is_suggested() -> None:
    found = steps(suggest(BENT, "y", "regression", PreparePlan(auto=False), family="linear"))

    assert not {"bin", "clip", "power", "group_impute", "group_rare"} & set(found)


@pytest.mark.parametrize("family", ["linear", "scaled", "tree"])
def test_free_text_whose_words_come_back_becomes_their_weights(family: Any) -> None:
    rng = np.random.default_rng(2)
    words = [f"word{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(60)]
    texts = [" ".join(rng.choice(words, size=9)) for _ in range(300)]
    label = ["spam" if "wordaa" in text else "ham" for text in texts]
    frame = pl.DataFrame({"text": texts, "label": label})

    recipe = suggest(frame, "label", "binary", family=family)
    target = np.array([float(each == "spam") for each in label])
    fitted, found = fit_recipe(recipe, frame.drop("label"), target, seed=0)

    assert steps(recipe)["text_vector"] == ["text"]
    assert fitted.feature_names == tuple(f"text~{word}" for word in sorted(words))
    # a word's weight is not scaled away: rows still have length 1
    assert np.allclose((found**2).sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ({"target": "prise"}, "price"),
        ({"task": "regresion"}, "regression"),
        ({"family": "treee"}, "tree"),
    ],
)
def test_a_word_that_is_misspelt_is_refused_with_the_nearest(
    change: dict[str, str], nearest: str
) -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0], "price": [3.0, 4.0]})
    asked: dict[str, Any] = {"target": "price", "task": "regression", "family": "tree", **change}

    with pytest.raises(InvalidInputError, match="is not") as caught:
        suggest(frame, asked.pop("target"), asked.pop("task"), **asked)

    assert nearest in caught.value.hint


def test_numbers_written_as_text_are_read_as_numbers() -> None:
    rng = np.random.default_rng(0)
    charges = [f"{value:.2f}" for value in rng.uniform(1, 9_000, 300)]
    charges[3] = " "
    frame = pl.DataFrame(
        {
            "charges": charges,
            "zip": [f"0{n:04d}" for n in rng.integers(0, 9_999, 300)],
            "phone": [f"415555{n:04d}" for n in rng.permutation(300)],
            "y": rng.random(300),
        }
    )

    recipe = suggest(frame, "y", "regression", family="tree")
    fitted, X = fit_recipe(recipe, frame.drop("y"), frame["y"].to_numpy(), seed=1)

    assert recipe.explain()[0][:2] == ("cast", ("charges",))
    place = fitted.feature_names.index("charges")
    assert np.isnan(X[3, place])
    np.testing.assert_array_equal(
        np.delete(X[:, place], 3), [float(c) for c in charges if c != " "]
    )
    np.testing.assert_array_equal(
        RowEncoder(fitted).encode(frame.to_dicts()), fitted.transform(frame)
    )


def test_a_pandas_table_gets_the_recipe_of_the_polars_table() -> None:
    frame = pl.DataFrame(
        {
            "area": [float(n % 37) for n in range(200)],
            "town": [["Kent", "Renton", None][n % 3] for n in range(200)],
            "price": [n * 1.5 for n in range(200)],
        }
    )

    found = suggest(frame.to_pandas(), "price", "regression", family="linear")

    assert found == suggest(frame, "price", "regression", family="linear")


def test_what_is_no_table_gets_no_recipe() -> None:
    with pytest.raises(InvalidInputError, match="A dict is no table"):
        suggest({"a": [1]}, None, "regression", family="linear")  # type: ignore[arg-type]
