from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loopwright.evaluate import Comparison, SegmentComparison
from loopwright.loop.file import parse_loop_file
from loopwright.loop.gate import Passage
from loopwright.loop.verdict import _asked_about_segments, _decision


def comparison(lower: float, upper: float) -> Comparison:
    return Comparison(
        metric="mape",
        champion=0.2,
        challenger=0.19,
        gain=0.01,
        lower=lower,
        upper=upper,
        probability_better=0.9,
        n_rows=400,
        confidence=0.95,
    )


BETTER, EQUAL, WORSE = comparison(0.005, 0.02), comparison(-0.01, 0.02), comparison(-0.05, -0.01)


@pytest.mark.parametrize(
    ("holds", "beside", "own", "promoted"),
    [
        (True, None, False, True),
        (False, None, False, False),
        # a round of its own replaces the champion only if it is better beyond doubt
        (True, None, True, False),
        (False, BETTER, True, True),
        (True, EQUAL, True, False),
        (True, WORSE, True, False),
        # a round that a person caused must meet the criteria and not be worse
        (True, EQUAL, False, True),
        (True, WORSE, False, False),
        (False, BETTER, False, False),
    ],
)
def test_who_goes_live(holds: bool, beside: Any, own: bool, promoted: bool) -> None:
    decided, told = _decision(
        holds=holds,
        told="mape 0.19",
        comparison=beside,
        own=own,
        title="lightgbm",
        n_rows=400,
        is_same=False,
    )

    assert decided is promoted
    assert told.startswith("On 400 rows it never saw, lightgbm: mape 0.19.")


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("not_worse", "promoted"), [(True, True), (None, True), (False, False)])
def test_a_guarded_segment_stops_what_was_not_shown_to_be_no_worse_there(
    own: bool, not_worse: bool | None, promoted: bool
) -> None:
    coast = SegmentComparison(
        name="the coast",
        n_rows=90,
        champion=0.2,
        challenger=0.21,
        gain=-0.01,
        lower=-0.03,
        margin=0.05,
        not_worse=not_worse,
    )

    decided, told = _decision(
        holds=True,
        told="mape 0.19",
        comparison=replace(BETTER, segments=(coast,)),
        own=own,
        title="lightgbm",
        n_rows=400,
        is_same=False,
    )

    assert decided is promoted
    assert ("guarded 'the coast'" in told) is not promoted


@pytest.mark.parametrize(("passes", "promoted"), [(True, True), (False, False)])
def test_the_gate_decides_about_a_challenger_of_the_loops_own(passes: bool, promoted: bool) -> None:
    said = Passage(
        passes=passes,
        in_doubt=(),
        harmed=(),
        but_for_segments=passes,
        reasons=() if passes else ("it may be worse by more than 1%",),
    )

    decided, told = _decision(
        holds=False,
        told="mape 0.19",
        comparison=EQUAL,
        own=True,
        title="lightgbm",
        n_rows=400,
        is_same=False,
        passes=said,
    )

    assert decided is promoted
    assert told.endswith(
        "It replaces the champion."
        if promoted
        else "It may be worse by more than 1%: the champion stays."
    )


@pytest.mark.parametrize(("ask", "asks"), [("[]", False), ("[segment_harm]", True)])
def test_a_person_is_asked_about_harm_to_a_segment_only_where_the_file_says_so(
    ask: str, asks: bool
) -> None:
    loop = parse_loop_file(
        b"name: p\nproblem: {target: y}\ndata: {source: {kind: file, path: a.csv}}\n"
        b"retrain: {ask: %s}\n" % ask.encode()
    )
    said = Passage(
        passes=False, in_doubt=("coast",), harmed=("coast",), but_for_segments=True, reasons=("x",)
    )

    told = _asked_about_segments(loop, said)

    assert bool(told) is asks
    assert not asks or told.endswith("It is worse beyond doubt in 'coast'.")
