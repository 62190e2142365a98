from __future__ import annotations

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data import ContractPlan, DataPlan, FileSource, Refresh, Split, check_plan

SOURCE = FileSource(path="a.csv")


def test_a_plan_with_defaults_is_seventy_twenty_ten_at_random():
    plan = DataPlan(source=SOURCE)

    check_plan(plan)

    assert (plan.split.shares, plan.split.by, plan.split.seed) == ((0.7, 0.2, 0.1), "random", 7)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (DataPlan(source=SOURCE, split=Split(train=0.5)), "add up to"),
        (DataPlan(source=SOURCE, refresh=Refresh(every="often")), "data.refresh.every is 'often'"),
        (DataPlan(source=SOURCE, refresh=Refresh(cursor=" ")), "data.refresh.cursor is empty"),
        (DataPlan(source=SOURCE, refresh=Refresh(key="id")), "has a key but no cursor"),
        (DataPlan(source=SOURCE, refresh=Refresh(cursor="at", key=())), "names no column"),
        (
            DataPlan(source=SOURCE, contract=ContractPlan(unseen=5)),
            r"data.contract.unseen is 5.*0.02 means 2 %",
        ),
    ],
)
def test_a_wrong_plan_is_refused_before_the_source_is_opened(plan: DataPlan, message: str):
    with pytest.raises(InvalidInputError, match=message):
        check_plan(plan)
