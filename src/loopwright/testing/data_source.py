"""What every source of rows promises, as tests that an implementation inherits."""

from __future__ import annotations

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data.source import BATCH_ROWS, Source

CONTRACT_ROWS = pl.DataFrame(
    {
        "id": list(range(1, 41)),
        "price": [100.5 + 3 * n for n in range(40)],
        "town": [("Kent", "Renton", None, "Auburn")[n % 4] for n in range(40)],
        "same": ["x"] * 40,
        "nothing": [None] * 40,
    },
    schema_overrides={"nothing": pl.String},
)
"""The rows that a source under test has to hold, in this order."""


class DataSourceContract:
    """Inherit, and provide a fixture `source`: an opened source that holds `CONTRACT_ROWS`.

    Set `secret` where the source was opened with a password.
    """

    secret = ""

    def test_the_schema_names_the_columns_in_order(self, source: Source) -> None:
        assert list(source.schema()) == CONTRACT_ROWS.columns

    def test_the_batches_hold_every_row_once_in_order(self, source: Source) -> None:
        rows = [row for batch in source.batches() for row in batch.select("id", "town").rows()]

        assert [(int(number), town) for number, town in rows] == CONTRACT_ROWS.select(
            "id", "town"
        ).rows()

    def test_numbers_keep_every_digit(self, source: Source) -> None:
        prices = [float(price) for batch in source.batches() for price in batch["price"]]

        assert prices == CONTRACT_ROWS["price"].to_list()

    def test_batches_are_small_and_never_empty(self, source: Source) -> None:
        heights = [batch.height for batch in source.batches()]

        assert all(0 < height <= BATCH_ROWS for height in heights)

    def test_a_second_reading_gives_the_same_rows(self, source: Source) -> None:
        first, second = list(source.batches()), list(source.batches())

        assert all(a.equals(b) for a, b in zip(first, second, strict=True))

    def test_a_reading_can_be_given_up_half_way(self, source: Source) -> None:
        batches = source.batches()
        next(batches)

        batches.close()  # type: ignore[attr-defined]

        assert sum(batch.height for batch in source.batches()) == CONTRACT_ROWS.height

    def test_the_fingerprint_stays_while_nothing_changes(self, source: Source) -> None:
        assert source.fingerprint() == source.fingerprint()

    def test_a_good_target_passes_the_check(self, source: Source) -> None:
        source.check("price")
        source.check("town")
        source.check()

    def test_a_mistyped_target_is_refused_with_the_nearest_column(self, source: Source) -> None:
        with pytest.raises(InvalidInputError, match=r"'prise' is not a column.*mean 'price'\?"):
            source.check("prise")

    @pytest.mark.parametrize(
        ("target", "message"), [("same", "same value"), ("nothing", "only missing values")]
    )
    def test_a_target_without_variation_is_refused(
        self, source: Source, target: str, message: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=message) as caught:
            source.check(target)

        assert caught.value.facts["field"] == "problem.target"

    def test_the_description_is_one_line_without_a_secret(self, source: Source) -> None:
        text = source.describe()

        assert text
        assert "\n" not in text
        assert not self.secret or self.secret not in text
