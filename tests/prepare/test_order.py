from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Bin,
    Overrule,
    PreparePlan,
    RowEncoder,
    TargetEncode,
    check_orders,
    fit_recipe,
    read_order,
    suggest,
)
from loopwright.prepare.order import options_of, step_kinds

N = 600
_RNG = np.random.default_rng(3)
HOUSES = pl.DataFrame(
    {
        "price": _RNG.lognormal(12, 0.4, size=N),
        "size": _RNG.normal(100, 20, size=N),
        "lot": [None if i % 9 == 0 else float(i % 17) for i in range(N)],
        "city": _RNG.choice([f"city {k}" for k in range(30)], size=N),
        "view": _RNG.choice(["sea", "hill", "none"], size=N),
        "id": np.arange(N) + 1_000,
    }
)


def recipe(family: Any = "scaled", **plan: Any) -> Any:
    return suggest(HOUSES, "price", "regression", PreparePlan(**plan), family=family)


def by_line(found: Any) -> dict[str, Any]:
    return {line.id: line for line in found.lines()}


def test_an_order_is_read_with_hyphens_and_a_reason() -> None:
    step = read_order(
        {"step": "target-encode", "columns": ["city"], "smoothing": 20, "reason": "few sales"},
        place="prepare.steps[0]",
    )

    assert step == TargetEncode(columns=("city",), smoothing=20.0, reason="by you: few sales")


def test_an_order_without_a_reason_is_still_by_a_person() -> None:
    step = read_order({"step": "bin", "columns": ["size"], "n-bins": 4}, place="x")

    assert step == Bin(columns=("size",), n_bins=4, reason="by you")


@pytest.mark.parametrize(
    ("order", "field", "message"),
    [
        ({"columns": ["a"]}, "prepare.steps[0].step", "lacks the key 'step'"),
        ({"step": "target-encod"}, "prepare.steps[0].step", "Did you mean 'target_encode'"),
        ({"step": 5}, "prepare.steps[0].step", "no step 5"),
        ({"step": "clip", "columns": ["a"], "tial": 0.1}, "prepare.steps[0].tial", "'tail'"),
        ({"step": "hash", "columns": ["a"], "names": []}, "prepare.steps[0].names", "no option"),
        ({"step": "bin"}, "prepare.steps[0].columns", "lacks 'columns'"),
        ({"step": "bin", "columns": "a"}, "prepare.steps[0].columns", "Expected `array`"),
        (
            {"step": "bin", "columns": ["a"], "strategy": "even"},
            "prepare.steps[0].strategy",
            "Invalid enum value 'even'",
        ),
    ],
)
def test_a_wrong_order_names_its_place_and_what_was_meant(
    order: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as found:
        check_orders(PreparePlan(steps=(order,)))

    assert found.value.facts["field"] == field


def test_every_step_can_be_ordered_with_its_options() -> None:
    for name, kind in step_kinds().items():
        options = options_of(kind)
        given = {
            key: option.default
            for key, option in options.items()
            if not option.required and option.default is not msgspec.NODEFAULT
        }
        given |= {"columns": ("a",)} if "columns" in options else {}
        given |= {key: "x" for key in ("name", "expression", "by", "to") if key in options}
        given |= {"to": "number"} if name == "cast" else {}
        given |= {"by": options["by"].default} if name in ("interact", "select_best") else {}
        given |= {"k": 3} if "k" in options else {}
        given |= {"transformer": "StandardScaler"} if "transformer" in options else {}
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}

        step = read_order({"step": name.replace("_", "-"), **plain}, place="x")

        assert isinstance(step, kind)
        assert step.reason == "by you"


def test_an_ordered_step_comes_first_and_nothing_of_its_kind_is_suggested_for_the_column() -> None:
    order = {"step": "quantile-scale", "columns": ["size"], "output": "normal"}

    found = by_line(recipe(steps=(order,)))

    assert found["quantile_scale"].by == "you"
    assert list(found).index("quantile_scale") == 0
    assert "size" in suggest_scale_but(recipe(steps=(order,)))


def suggest_scale_but(found: Any) -> tuple[str, ...]:
    but: tuple[str, ...] = next(s.but for s in found.steps if type(s).__name__ == "Scale")
    return but


def test_what_an_ordered_step_makes_is_encoded_like_other_columns() -> None:
    order = {"step": "group-rare", "columns": ["city"], "min-share": 0.03}

    found = recipe(steps=(order,))
    fitted, features = fit_recipe(found, HOUSES.drop("price"), HOUSES["price"].to_numpy(), seed=0)

    assert by_line(found)["group_rare"].by == "you"
    assert np.isfinite(features).all()
    rows = HOUSES.drop("price").to_dicts()
    assert (
        fitted.transform(HOUSES.drop("price")).tobytes()
        == RowEncoder(fitted).encode(rows).tobytes()
    )


def test_a_step_over_all_numbers_takes_the_place_of_the_suggested_one() -> None:
    found = recipe(steps=({"step": "robust-scale"}, {"step": "select-best", "k": 3}))

    ids = [line.id for line in found.lines()]
    assert ids[-2:] == ["robust_scale", "select_best"]
    assert "scale" not in ids


def test_a_step_over_a_column_that_is_not_there_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInputError, match=r"prepare\.steps\[0\].*Did you mean 'size'"):
        recipe(steps=({"step": "clip", "columns": ["siez"]},))


def test_a_step_over_the_wrong_kind_of_column_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInputError, match="holds text values") as found:
        recipe(steps=({"step": "clip", "columns": ["city"]},))

    assert found.value.facts["field"] == "prepare.steps[0]"


def test_a_refused_suggestion_is_gone_for_that_column_and_the_reason_is_kept() -> None:
    overrule = Overrule(column="id", refuse="drop", reason="ids grow with time")

    found = recipe(overrule=(overrule,))

    assert "drop" not in by_line(found)
    assert ("no drop", ("id",), "by you: ids grow with time") in found.explain()
    assert type(found).from_json(found.to_json()) == found


def test_a_suggestion_is_replaced_where_it_stood() -> None:
    overrule = Overrule(
        column="view",
        refuse="one-hot",
        reason="order matters",
        instead={"step": "ordinal", "order": ["none", "hill", "sea"]},
    )

    found = by_line(recipe(overrule=(overrule,)))

    assert found["ordinal"].columns == ("view",)
    assert found["ordinal"].reason == "by you: order matters"
    assert "view" not in found["one_hot"].columns if "one_hot" in found else True


def test_a_step_over_all_numbers_is_refused_for_one_column() -> None:
    found = recipe(overrule=(Overrule(column="size", refuse="scale", reason="in metres"),))

    assert suggest_scale_but(found) == ("size",)


def test_what_only_another_family_is_suggested_may_be_refused() -> None:
    found = recipe("tree", overrule=(Overrule(column="size", refuse="scale", reason="why not"),))

    assert found.steps == recipe("tree").steps


@pytest.mark.parametrize(
    ("overrule", "message"),
    [
        (Overrule(column="size", refuse="drop", reason="x"), "which nothing suggests"),
        (Overrule(column="view", refuse="target_encode", reason="x"), "Suggested for it: one_hot"),
        (Overrule(column="viewe", refuse="drop", reason="x"), "Did you mean 'view'"),
        (Overrule(column="view", refuse="one_hto", reason="x"), "Did you mean 'one_hot'"),
        (Overrule(column="view", refuse="one_hot", reason=" "), "gives no reason"),
        (Overrule(column="view", refuse="one_hot", reason="x"), "no other step turns it into"),
    ],
)
def test_an_overrule_that_cannot_be_followed_is_refused(overrule: Overrule, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as found:
        recipe(overrule=(overrule,))

    assert found.value.facts["field"].startswith("prepare.overrule[0]")


def test_lines_are_taken_out_and_put_in_by_their_ids() -> None:
    found = recipe()

    changed = found.without("impute", "lot").without("drop").with_(Bin(columns=("size",)))

    assert found.without("scale").lines() == found.lines()[:-1]
    assert [line.id for line in changed.lines()][-1] == "bin"
    assert by_line(changed)["bin"].by == "you"
    with pytest.raises(InvalidInputError, match="Did you mean 'scale'"):
        found.without("scael")
    with pytest.raises(InvalidInputError, match="no column 'siez'"):
        found.without("one_hot", "siez")


def test_a_line_stands_before_another() -> None:
    found = recipe().with_(Bin(columns=("size",)), before="scale")

    ids = [line.id for line in found.lines()]
    assert ids.index("bin") == ids.index("scale") - 1
