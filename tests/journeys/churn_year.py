"""A made-up year of the churn example's customers, whose truth is known: traffic, labels and mishaps.

The rows are the example's, drawn again and again. Who leaves is drawn from a logistic rule that was
fitted to the example and made somewhat clearer; from one week on another rule holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

EXAMPLE = Path(__file__).parents[2] / "examples" / "telecom-churn"
N_WEEKS = 52
POISONED, BROKEN, TURNED = 12, 20, 30
ROWS_A_DAY = 50
_CLEARER = 1.6
_LATE_WEEKS = (2, 3, 4)
_NEVER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnYear:
    """The customers, the two rules, and a generator that makes the same year of the same seed."""

    customers: pl.DataFrame
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    rng: np.random.Generator
    owed: list[tuple[int, str, str]] = field(default_factory=list)
    truth: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_seed(cls, seed: int) -> ChurnYear:
        """Return a year; its two rules are chances of leaving, by row of `customers`."""
        rows = pl.read_parquet(EXAMPLE / "churn.parquet")
        logit = _fitted_logit(rows)
        logit = logit.mean() + _CLEARER * (logit - logit.mean())
        # a rival buys those out whose contracts are long, and has nothing for the others
        moved = rows["Contract"].replace_strict(
            {"Two year": 3.5, "One year": 2.0, "Month-to-month": -1.5}, return_dtype=pl.Float64
        )
        return cls(
            customers=rows.drop("Churn"),
            before=1 / (1 + np.exp(-logit)),
            after=1 / (1 + np.exp(-(logit + moved.to_numpy()))),
            rng=np.random.default_rng(seed),
        )

    def history(self) -> pl.DataFrame:
        """Return the table that the first model learns from."""
        left = self.rng.random(self.customers.height) < self.before
        return self.customers.with_columns(Churn=pl.Series(_words(left)))

    def day(self, week: int, day: int) -> tuple[list[str], pl.DataFrame]:
        """Return ids and rows that are asked about on a day; the truth is owed from then on."""
        drawn = self.rng.integers(self.customers.height, size=ROWS_A_DAY)
        ids = [f"w{week:02d}-{day}-{n:02d}" for n in range(ROWS_A_DAY)]
        chance = (self.before if week < TURNED else self.after)[drawn]
        left = _words(self.rng.random(ROWS_A_DAY) < chance)
        self.truth.update(zip(ids, left, strict=True))
        late = self.rng.choice(_LATE_WEEKS, size=ROWS_A_DAY)
        never = self.rng.random(ROWS_A_DAY) < _NEVER
        self.owed.extend(
            (week + int(w), id_, label)
            for w, id_, label, no in zip(late, ids, left, never, strict=True)
            if not no
        )
        rows = self.customers[drawn].with_columns(customerID=pl.Series(ids))
        if week == BROKEN:  # the billing system sends cents
            rows = rows.with_columns(pl.col("MonthlyCharges") * 100)
        return ids, rows

    def labels_of(self, week: int, *, known_at: datetime) -> pl.DataFrame:
        """Return the labels that become known in a week; in one week they are all wrong."""
        found = [(id_, label) for due, id_, label in self.owed if due == week]
        if week == POISONED:
            found = [(id_, {"Yes": "No", "No": "Yes"}[label]) for id_, label in found]
        return pl.DataFrame(
            {
                "inference_id": [id_ for id_, _ in found],
                "Churn": [label for _, label in found],
                "known_at": [known_at] * len(found),
            },
            schema={
                "inference_id": pl.String,
                "Churn": pl.String,
                "known_at": pl.Datetime("us", "UTC"),
            },
        )

    def fresh(self, *, is_new: bool, n: int, seed: int) -> pl.DataFrame:
        """Return rows with the truth of one of the rules, for judging who has learnt it."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(self.customers.height, size=n)
        chance = (self.after if is_new else self.before)[drawn]
        return self.customers[drawn].with_columns(
            Churn=pl.Series(_words(rng.random(n) < chance)), chance=pl.Series(chance)
        )


def last_year() -> datetime:
    """Return the Monday on which a year of weeks begins that is over by now.

    It lies in the past because files have the times of the machine's own clock: they are never older
    than a clock that is behind says, so that nothing takes them for left behind.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(weeks=N_WEEKS + 2, days=today.weekday())


def _fitted_logit(rows: pl.DataFrame) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    numbers = rows.select("tenure", "MonthlyCharges", "SeniorCitizen").to_numpy().astype(float)
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    texts = [c for c, t in rows.schema.items() if t == pl.String]
    texts = [c for c in texts if c not in ("customerID", "TotalCharges", "Churn")]
    x = np.hstack([numbers, rows.select(texts).to_dummies().to_numpy().astype(float)])
    model = LogisticRegression(C=1.0, max_iter=2_000).fit(x, (rows["Churn"] == "Yes").to_numpy())
    found: Any = model.decision_function(x)
    return np.asarray(found, dtype=np.float64)


def _words(left: npt.NDArray[np.bool_]) -> list[str]:
    return ["Yes" if each else "No" for each in left]
