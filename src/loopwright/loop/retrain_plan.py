"""The `retrain:` block: what starts a round by itself, how often one may, and who lets it live."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds

Window = Literal["all", "recent", "weighted"]


class Occasion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Go round again after so many new labelled rows, or after so much time; one of the three.

    Parameters
    ----------
    rows
        New labelled live rows since the last round that could learn from them, at least 1.
    growth
        The same as a share of the rows that the champion learnt from, above 0: with 0.2, after
        each fifth more.
    every
        Time since the last round of any cause ended, such as `30 days`.
    """

    rows: int | None = None
    growth: float | None = None
    every: str | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.rows, self.growth, self.every)) != 1:
            raise InvalidInputError(
                "retrain.when has an entry without exactly one of rows, growth and every.",
                hint="Write one of them: {rows: 10000}, {growth: 0.2} or {every: 30 days}.",
                field="retrain.when",
            )
        if self.growth is not None and not 0 < self.growth < float("inf"):
            raise InvalidInputError(
                f"retrain.when asks for a growth of {self.growth:g}.",
                hint="Give more than 0, such as {growth: 0.2} for a fifth more rows.",
                field="retrain.when",
                value=self.growth,
            )
        if self.rows is not None and self.rows < 1:
            raise InvalidInputError(
                f"retrain.when asks for {self.rows} rows.",
                hint="Give at least 1, such as {rows: 10000}.",
                field="retrain.when",
                value=self.rows,
            )
        if self.every is not None and seconds(self.every, field="retrain.when") <= 0:
            raise InvalidInputError(
                f"retrain.when asks for a round every {self.every!r}.",
                hint="Give more than no time, such as {every: 30 days}.",
                field="retrain.when",
                value=self.every,
            )


class RetrainLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most rounds of its own that a loop may begin.

    Parameters
    ----------
    per_day
        Within any 24 hours.
    per_week
        Within any 7 days.
    """

    per_day: int = 2
    per_week: int = 6


class RetrainBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the rounds of a loop's own may cost together.

    Parameters
    ----------
    minutes
        Wall time of their training.
    money
        What their training jobs cost at `train.budget.price_per_cpu_hour`.
    per
        Within any period as long as this.
    """

    minutes: float | None = None
    money: float | None = None
    per: str = "30 days"


class RetrainPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `retrain:` block: what starts a new round by itself, how often, and who approves.

    Parameters
    ----------
    when
        Any of `criterion_missed`, `estimated_miss`, `drift`, `{rows: N}`, `{growth: SHARE}` and
        `{every: TIME}`; empty means never.
    cooldown
        Least time between two rounds that started by themselves; it doubles with every one in a row
        that failed or whose model was refused, to 16 times at most.
    bake
        How long a new champion of the loop's own is on trial after it answers everything. If it
        does worse than the one before, that one answers again by itself.
    approve
        `auto`: a better model goes live by itself. `manual`: a person says so first.
    min_rows
        Labelled live rows needed before a round can learn from them.
    most
        How many rounds a day and a week.
    budget
        What they may cost; nothing means no limit.
    ask
        Where a person is asked although `approve` is `auto`: `first_promotion`, the first model that
        would replace another; `segment_harm`, a better one that was not shown to be no worse in a
        guarded segment (it is refused where nobody is asked).
    bad_data
        What faulty incoming data lead to. `hold`: the loop is held until a person resumes it.
        `wait`: it waits by itself until the data are sound again. No round learns from them.
    windows
        Which choices of training rows are compared on later rows, the better one being used: `all`,
        the `recent` ones, and `weighted`, all with a weight that halves with age.
    all_rows
        Whether a model that may go live is fitted once more, on all rows of its round: those that
        chose and judged it are the newest. Where that fails, or gives another model than was judged,
        the judged one goes live.
    golden
        A table beside the loop file with rows whose truth is certain; a challenger that was not
        shown to be worse there by 1 % at most is refused. Some hundred rows show it.
    """

    when: tuple[Literal["criterion_missed", "estimated_miss", "drift"] | Occasion, ...] = (
        "criterion_missed",
        "drift",
        Occasion(growth=0.2),
    )
    cooldown: str = "1 day"
    bake: str = "7 days"
    approve: Literal["auto", "manual"] = "auto"
    min_rows: int = 500
    most: RetrainLimits = RetrainLimits()
    budget: RetrainBudget | None = None
    ask: tuple[Literal["first_promotion", "segment_harm"], ...] = ()
    bad_data: Literal["hold", "wait"] = "hold"
    windows: tuple[Window, ...] = ("all", "recent")
    golden: str | None = None
    all_rows: bool = True


def check_retrain(plan: RetrainPlan) -> None:
    """Raise for what is wrong whatever the data are.

    Raises
    ------
    InvalidInputError
        If a duration is none, or a number is out of range.
    """
    seconds(plan.cooldown, field="retrain.cooldown")
    seconds(plan.bake, field="retrain.bake")
    numbers: list[tuple[str, float | None]] = [
        ("most.per_day", plan.most.per_day),
        ("most.per_week", plan.most.per_week),
    ]
    if plan.budget is not None:
        seconds(plan.budget.per, field="retrain.budget.per")
        numbers += [("budget.minutes", plan.budget.minutes), ("budget.money", plan.budget.money)]
    for name, number in numbers:
        if number is not None and not 0 < number < float("inf"):
            raise InvalidInputError(
                f"retrain.{name} is {number:g}.",
                hint="Give a number above 0; `when: []` means that no round starts by itself.",
                field=f"retrain.{name}",
                value=number,
            )
    if plan.most.per_day > plan.most.per_week:
        raise InvalidInputError(
            f"retrain.most allows {plan.most.per_day} rounds a day and only {plan.most.per_week} a "
            "week.",
            hint=f"Lower per_day to at most {plan.most.per_week}, or raise per_week to at least "
            f"{plan.most.per_day}.",
            field="retrain.most.per_week",
            value=plan.most.per_week,
        )
    if not plan.windows or "all" not in plan.windows:
        raise InvalidInputError(
            f"retrain.windows is {list(plan.windows)}.",
            hint="List 'all', and 'recent' or 'weighted' beside it: windows: [all, recent].",
            field="retrain.windows",
        )
