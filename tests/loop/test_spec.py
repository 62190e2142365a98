from __future__ import annotations

from typing import Any

from loopwright.loop.file import parse_loop_file
from loopwright.loop.spec import asks_for_a_model, changes, decision_digest, redacted

FILE = """\
name: %s
problem: {question: %s, target: price, criteria: [{metric: mape, at_most: %s}], people: [%s]}
data: {source: {kind: sql, url: "postgresql://ann:secret@host/db", table: sales}}
deploy: {endpoint: %s}
"""


def spec(
    *, name: str = "a", question: str = "q", bound: str = "0.2", who: str = "Ann", at: str = "e"
) -> dict[str, Any]:
    return parse_loop_file((FILE % (name, question, bound, who, at)).encode()).to_json()


def test_words_people_and_serving_make_no_other_decision() -> None:
    first = decision_digest(spec())

    assert decision_digest(spec(name="copy", question="Why", who="Bo", at="other")) == first
    assert decision_digest(spec(bound="0.25")) != first


def test_how_a_model_is_served_asks_for_no_other_model() -> None:
    assert not asks_for_a_model(spec(), spec(at="other"))
    assert asks_for_a_model(spec(), spec(bound="0.25"))
    assert changes(spec(), spec(bound="0.25", at="other")) == "problem, deploy"


def test_an_address_is_not_kept() -> None:
    assert "secret" not in str(redacted(spec()))
