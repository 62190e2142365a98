"""Bad input: one clear message with field, value and remedy, exit code 2, nothing changed on disk."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli

from .conftest import LOOP_FILE, sales

CLASSES = "{metric: roc_auc, at_least: 0.6}"


def entries(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sales(600).write_parquet(tmp_path / "houses.parquet")
    return tmp_path


def written(folder: Path, change: Callable[[str], str] = lambda text: text, **fields: Any) -> Path:
    given = {
        "name": "houses",
        "mape": 0.24,
        "source": "{kind: file, path: houses.parquet}",
        "algorithms": "[linear-learner]",
        "hyperparameters": "{}",
        "min_rows": 300,
        "approve": "auto",
    }
    path = folder / "loop.yaml"
    path.write_text(change(LOOP_FILE.format(**(given | fields))))
    return path


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(
        cli, ["--home", str(path.parent / "home"), "run", str(path), *options]
    )


def check_refused(path: Path, message: str, remedy: str) -> None:
    before = entries(path.parent)

    result = run(path)
    as_json = json.loads(run(path, "--json").stdout)

    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert remedy in result.stderr
    assert "Traceback" not in result.output
    assert message in as_json["error"]["message"]
    assert entries(path.parent) == before
    assert not (path.parent / "home").exists()


@pytest.mark.parametrize(
    ("old", "new", "message", "remedy"),
    [
        ("target: price", "target: price\n  qestion: x", "no key 'qestion'", "'question'"),
        ("target: price", "target: 7", "problem.target is 7: text is expected", "loop-file.md"),
        ("metric: mape", "metric: mappe", "There is no metric 'mappe'", "Did you mean 'mape'"),
        ("target: price", "target: prize", "'prize' is not a column", "Did you mean 'price'"),
        ("metric: mape", "metric: roc_auc", "does not fit a regression", "another metric|task"),
        ("path: houses.parquet", "path: hauses.parquet", "hauses.parquet", "houses.parquet"),
        ("[linear-learner]", "[linear-lerner]", "'linear-lerner'", "linear-learner"),
        (
            "data:",
            "tune: {trials: 3, space: {knn: {n_neighbors: [9, 3]}}}\ndata:",
            "tune.space.knn: The space of n_neighbors goes from 9 to 3",
            "lower end first",
        ),
        (
            "[linear-learner]",
            "[auto]\n  auto: {trials: 0}",
            "train.auto.trials is below 1",
            "at least one",
        ),
        ("endpoint: houses", "endpoint: Big House", "cannot name a", "lower-case"),
        (
            "data:",
            "prepare: {drop: [bedroms]}\ndata:",
            "loop.yaml, line 7: prepare.drop names 'bedroms'",
            "Did you mean 'bedrooms'",
        ),
        (
            "data:",
            "prepare: {derive: {x: \"__import__('os')\"}}\ndata:",
            "__import__",
            "",
        ),
        (
            "data:",
            "prepare: {steps: [{step: bin, columns: [sqft_living], n_bins: 1}]}\ndata:",
            "prepare.steps[0]: n_bins is 1",
            "2 to 1,000",
        ),
        (
            "data:",
            "prepare: {steps: [{step: log1p, columns: [date]}]}\ndata:",
            "prepare.steps[0]: ",
            "",
        ),
        (
            "data:",
            "prepare: {steps: [{step: impute}, {step: drop_correlated, threshold: 2}]}\ndata:",
            "prepare.steps[1]: The threshold is 2",
            "at most 1",
        ),
        ("cpus: 1", "cpus: 1, memry: 1", "no key 'memry'", "'memory'"),
        (
            "data:",
            "monitor: {labels: {key: zipcod}}\ndata:",
            "loop.yaml, line 7: monitor.labels.key is 'zipcod', not a column of the source",
            "Did you mean 'zipcode'",
        ),
        (
            "data:",
            "monitor: {labels: {key: price}}\ndata:",
            "monitor.labels.key is 'price', the target, which no request brings",
            "leave it out",
        ),
        (
            "endpoint: houses",
            "endpoint: houses, rollout: {kind: canari}",
            "deploy.rollout",
            "canary",
        ),
        (
            "data:",
            "data:\n  split: {train: 0.9, validation: 0.3, test: 0.1}",
            "shares 0.9",
            "add up",
        ),
        (
            "target: price",
            "target: waterfront\n  task: binary\n  payoff: {true_positive: 9, false_positive: 3}",
            "loop.yaml, line 6: problem.payoff has a wrong sign",
            "Costs are negative",
        ),
        (
            "target: price",
            "target: waterfront\n  task: binary\n  payoff: {true_positive: 0.1 * prize}",
            "loop.yaml, line 6: problem.payoff.true_positive: ",
            "Did you mean 'price'",
        ),
        (
            "target: price",
            "target: waterfront\n  task: binary\n  payoff: {true_positive: -0.1 * price}",
            "on average over ",
            "Costs are negative",
        ),
        (
            "at_most: 0.24}",
            "at_most: 0.24}\n    - {metric: share_within_5_percent, at_least: 30}",
            "loop.yaml, line 7: problem.criteria[1]: no answers can have",
            "30 percent is 0.30",
        ),
        (
            "target: price",
            "target: price\n  constraints: {fairness: [{column: sex, metric: mae, at_most_gap: 9}]}",
            "problem.constraints.fairness[0].column is 'sex'",
            "",
        ),
        (
            "target: price",
            "target: price\n  constraints: {latency: 20}",
            "problem.constraints has no key 'latency'",
            "'latency_ms'",
        ),
        (
            "approve: auto",
            "approve: later",
            "retrain.approve cannot be 'later'",
            "auto",
        ),
    ],
)
def test_a_loop_file_that_cannot_work_changes_nothing(
    folder: Path, old: str, new: str, message: str, remedy: str
) -> None:
    def change(text: str) -> str:
        text = text.replace(old, new, 1)
        return text.replace("{metric: mape, at_most: 0.24}", CLASSES) if "binary" in text else text

    path = written(folder, change)

    check_refused(path, message, remedy.split("|")[0] if "|" not in remedy else "")


def test_an_empty_table_is_refused(folder: Path) -> None:
    sales(10).head(0).write_parquet(folder / "houses.parquet")

    check_refused(written(folder), "houses.parquet", "")


def test_a_target_with_one_value_is_refused(folder: Path) -> None:
    sales(50).with_columns(price=pl.lit(5.0)).write_parquet(folder / "houses.parquet")

    check_refused(written(folder), "the same value in every row", "Choose another target")


def test_a_broken_file_is_refused(folder: Path) -> None:
    (folder / "houses.parquet").write_bytes(b"PAR1 this is no parquet")

    check_refused(written(folder), "houses.parquet", "")


def test_an_unreachable_database_is_refused_without_its_password(folder: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"postgresql+psycopg://ann:s3cret@127.0.0.1:{port}/sales"
    path = written(folder, source=f"{{kind: sql, url: '{url}', table: sales}}")

    check_refused(path, f"127.0.0.1:{port}", "")
    assert "s3cret" not in run(path).output


def test_a_port_in_use_is_refused(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = written(
            folder,
            lambda text: text.replace("endpoint: houses", f"endpoint: houses, port: {port}"),
        )

        check_refused(path, f"port {port}", "deploy.port")


def test_more_than_the_machine_has_is_refused(folder: Path) -> None:
    path = written(folder, lambda text: text.replace("cpus: 1", "cpus: 4096"))

    check_refused(path, "4096", "")


def test_a_home_below_a_file_is_refused(folder: Path) -> None:
    path = written(folder)
    (folder / "home").write_text("a file")
    before = entries(folder)

    result = CliRunner().invoke(cli, ["--home", str(folder / "home" / "x"), "run", str(path)])

    assert result.exit_code == 2
    assert "is a file" in result.stderr
    assert "--home" in result.stderr
    assert entries(folder) == before


def test_a_home_without_permission_is_refused(folder: Path) -> None:
    path = written(folder)
    locked = folder / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for readable in (folder, folder.parent, folder.parent.parent):
        readable.chmod(0o755)
    # a fork, so that a test run by root can step down without asking what an ordinary user may read
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        result = CliRunner().invoke(cli, ["--home", str(locked / "home"), "run", str(path)])
        told = "no permission" in result.stderr and "--home" in result.stderr
        os._exit(result.exit_code if told else 99)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 2
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing.yaml"], "There is no loop file"),
        (["status"], "There is no loopwright store"),
        (["status", "houses"], "There is no loopwright store"),
        (["jobs"], "There is no loopwright store"),
    ],
)
def test_asking_for_what_is_not_there_says_what_to_do(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), *arguments])

    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "home").exists()
