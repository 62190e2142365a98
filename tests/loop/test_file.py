from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.loop import parse_loop_file, read_loop_file

GOOD = """\
name: house-prices
problem:
  target: price
  criteria:
    - {metric: mape, at_most: 0.15}
data:
  source: {kind: file, path: houses.parquet}
deploy: {endpoint: house-prices}
retrain: {when: [criterion_missed, drift, {rows: 10000}], cooldown: 1 day, approve: auto}
"""


def test_a_short_file_is_filled_with_defaults() -> None:
    loop = parse_loop_file(GOOD.encode())

    assert loop.problem.confidence == 0.95
    assert loop.data.split.train == 0.7
    assert loop.train.algorithms == ("linear-learner", "knn", "xgboost", "lightgbm")
    assert loop.retrain.when[2].rows == 10_000  # type: ignore[union-attr]


def test_what_was_read_is_the_same_after_a_round_through_json() -> None:
    content = parse_loop_file(GOOD.encode()).to_json()

    assert content["problem"]["criteria"] == [{"metric": "mape", "at_most": 0.15, "at_least": None}]
    assert isinstance(content["train"]["algorithms"], list)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("target: price", "targt: price"), r"line 3: problem has no key 'targt'.*'target'"),
        (
            ("metric: mape", "metrik: mape"),
            r"line 5: problem.criteria\[0\] has no key 'metrik'.*'metric'",
        ),
        (("at_most: 0.15", "at_most: low"), r"line 5: .*at_most is 'low': a number .*is expected"),
        (("kind: file", "kind: fil"), r"line 7: "),
        (("path: houses.parquet", "pth: houses.parquet"), r"line 7: .*no key 'pth'.*'path'"),
        (("  target: price\n", ""), r"problem lacks the key 'target'"),
        (("approve: auto", "approve: yes"), r"line 9: retrain.approve"),
        (("cooldown: 1 day", "cooldown: soon"), r"retrain.cooldown is 'soon'"),
        (("name: house-prices", "name: House Prices"), r"cannot name a loop"),
        (("name: house-prices\n", ""), r"lacks the key 'name'"),
        (
            ("data:", "data:\n  source: {kind: file, path: a}"),
            r"line 8: 'data.source' stands there twice",
        ),
        (("problem:", "problem: ["), r"is not YAML"),
        ((GOOD, "just text"), r"does not hold keys and values"),
        ((GOOD, ""), r"does not hold keys and values"),
    ],
)
def test_a_wrong_file_is_answered_with_line_key_and_remedy(
    change: tuple[str, str], message: str
) -> None:
    text = GOOD.replace(*change)

    with pytest.raises(InvalidInputError, match=message):
        parse_loop_file(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "name: !!python/name:os.system",
        "a: &a [x]\n" + "b: [" + ", ".join(["*a"] * 200) + "]",
    ],
)
def test_yaml_that_would_run_code_or_grow_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_loop_file(text.encode())


def test_bytes_that_are_no_text_and_files_too_large_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        parse_loop_file(b"name: \xff")
    with pytest.raises(InvalidInputError, match="has 1,200,000 bytes"):
        parse_loop_file(b"#" * 1_200_000)


def test_a_missing_file_is_answered_with_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "loop.yml").write_text(GOOD)

    with pytest.raises(NotFoundError, match=r"loop.yml"):
        read_loop_file(tmp_path / "loop.yaml")


def test_dates_without_quotes_stay_text() -> None:
    text = GOOD.replace("target: price", "target: price\n  question: 2024-01-01")

    assert parse_loop_file(text.encode()).problem.question == "2024-01-01"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "source: {kind: mongdb, url: x}",
            r"data\.source\.kind cannot be 'mongdb'.*mean 'mongodb'",
        ),
        ("source: {kind: ftp, url: x}", r"cannot be 'ftp'.*Known: dynamodb, file, images"),
        ("source: {kind: images, path: x, broken: reuse}", "cannot be 'reuse'.*mean 'refuse'"),
    ],
)
def test_an_unknown_kind_or_word_is_refused_with_the_nearest(block: str, message: str) -> None:
    text = f"name: a\nproblem: {{target: x}}\ndata:\n  {block}\n"

    with pytest.raises(InvalidInputError, match=f"line 4: .*{message}"):
        parse_loop_file(text.encode())


def test_an_unknown_word_in_a_list_is_refused_with_the_nearest() -> None:
    text = "name: a\nproblem: {target: x}\ndata: {source: {kind: file, path: x.csv}}\n"

    with pytest.raises(
        InvalidInputError, match=r"retrain\.when\[0\] cannot be 'drft'.*mean 'drift'"
    ):
        parse_loop_file(f"{text}retrain: {{when: [drft]}}".encode())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("resources: {memory: lots}", "line 11: train.resources.memory is 'lots'"),
        ("resources: {cpus: 0}", "line 11: train.resources.cpus is 0"),
        ("limits: {log: much}", "line 11: train.limits.log is 'much'"),
        ("limits: {processes: 0}", "line 11: train.limits.processes is 0"),
        ("limits: {lg: 1 MiB}", "line 11: train.limits has no key 'lg'. Did you mean 'log'"),
        ("workers: two", "line 11: train.workers is 'two'"),
    ],
)
def test_what_a_job_may_use_is_refused_with_its_line(block: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_loop_file(f"{GOOD}train:\n  {block}\n".encode())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("cooldown: -1 day", "line 10: retrain.cooldown is '-1 day'"),
        ("most: {per_day: 0}", "line 10: retrain.most.per_day is 0"),
        ("budget: {minutes: .inf}", "line 10: retrain.budget.minutes is inf"),
        ("budget: {minutes: 5, per: soon}", "line 10: retrain.budget.per is 'soon'"),
        ("windows: []", "line 10: retrain.windows is"),
    ],
)
def test_what_starts_a_round_is_refused_with_its_line(block: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_loop_file(f"{GOOD.partition('retrain:')[0]}retrain:\n  {block}\n".encode())
