"""What is shown of values that break a contract is up to the caller."""

from __future__ import annotations

import polars as pl

from loopwright.data import contract_violations, infer_contract


def test_every_value_in_a_sentence_passes_the_caller_first():
    towns = ["Bonn", "Ulm"] * 30
    before = pl.DataFrame(
        {
            "town": towns,
            "kind": towns,
            "id": [f"a{i}" for i in range(60)],
            "size": [i % 7 for i in range(60)],
        }
    )
    after = before.with_columns(
        pl.lit("Secretville").alias("town"),
        pl.lit(4_111_111).alias("kind"),
        pl.lit("a7777").alias("id"),
        pl.lit(4_111_111).alias("size"),
    )
    asked = []

    def show(name: str, value: str) -> str:
        asked.append((name, value))
        return "…"

    found = contract_violations(infer_contract(before.lazy()), after.lazy(), show=show)

    text = " ".join(each.message for each in found)
    assert {each.kind for each in found} == {
        "unseen categories",
        "type changed",
        "duplicate keys",
        "out of range",
    }
    assert "such as '…'" in text
    assert not any(
        secret in text for secret in ("Secretville", "4111111", "4,111", "4.11", "a7777")
    )
    assert {name for name, _ in asked} == {"town", "kind", "id", "size"}


def test_of_numbers_that_became_text_a_value_that_is_no_number_is_shown():
    before = pl.DataFrame({"price": [1.5, 2.5] * 30})
    after = pl.DataFrame({"price": ["1.5", "2.5"] * 30 + ["call us"]})

    (found,) = contract_violations(infer_contract(before.lazy()), after.lazy())

    assert "'call us'" in found.message
