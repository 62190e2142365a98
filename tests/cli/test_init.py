from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from loopwright.cli.interview import person_said
from loopwright.cli.main import cli
from loopwright.loop import read_loop_file


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    pl.DataFrame(
        {
            "age": rng.integers(18, 90, size=600),
            "yearly_value": rng.lognormal(4, 1, size=600).round(2),
            "gender": rng.choice(["f", "m"], size=600),
            "churned": rng.choice(["no", "yes"], size=600, p=[0.8, 0.2]),
        }
    ).write_csv(tmp_path / "customers.csv")
    return tmp_path / "customers.csv"


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments], catch_exceptions=False)


def test_everything_can_be_said_by_options(table: Path) -> None:
    path = table.parent / "churn.yaml"

    result = init(
        *(str(table), "--target", "churned", "--name", "churn", "-o", str(path), "--json"),
        *("--question", "Who leaves?", "--action", "A call", "--today", "A letter", "--cost", "2"),
        *("--success", "find at least 60 % of them", "--success", "profit_per_case >= 2"),
        *("--payoff", "true_positive=0.5 * yearly_value", "--payoff", "false_positive=-5"),
        *("--latency-ms", "20", "--no-personal-data", "--fair", "gender:recall:0.1"),
        *("--person", "Bo Chen (head of sales)", "--person", "Ann", "--approve", "manual"),
    )

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["task"], said["approach"]) == ("binary", "boosted trees")
    loop = read_loop_file(path).content
    assert loop.problem.payoff == {"true_positive": "0.5 * yearly_value", "false_positive": -5.0}
    assert [str(each) for each in loop.problem.criteria] == [
        "recall at least 0.6",
        "profit_per_case at least 2",
    ]
    assert loop.problem.constraints is not None
    assert not loop.problem.constraints.personal_data
    assert [str(each) for each in loop.problem.people] == ["Bo Chen (head of sales)", "Ann"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "SOURCE is missing"),
        (("{table}",), "--target is missing"),
        (("{table}", "--target", "churnd"), "Did you mean 'churned'"),
        (("{table}", "--target", "churned", "--payoff", "160"), "--payoff true_positive=160"),
        (("{table}", "--target", "churned", "--fair", "gender"), "gender:recall:0.1"),
        (("{table}", "--target", "churned", "--success", "nicely"), "Say for instance"),
    ],
)
def test_what_is_missing_or_wrong_is_told_and_nothing_is_written(
    table: Path, arguments: tuple[str, ...], message: str
) -> None:
    path = table.parent / "loop.yaml"

    result = init(*(each.format(table=table) for each in arguments), "-o", str(path))

    assert result.exit_code == 2
    assert message in result.stderr
    assert not path.exists()


def on_a_terminal(arguments: list[str], answers: list[str], folder: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own, type the answers, and return what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    shown, until = b"", time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if select.select([ours], [], [], 1.0)[0]:
                shown += os.read(ours, 65_536)
            elif process.poll() is not None:
                break
    except OSError:  # the other end of the terminal is closed
        pass
    finally:
        os.close(ours)
        if process.poll() is None and time.monotonic() >= until:
            process.kill()
    return process.wait(), shown.decode(errors="replace")


def test_on_a_terminal_it_asks_in_plain_words(table: Path) -> None:
    answers = [
        "customers.csv",
        *("chrned", "4"),  # a slip, then the column by its number
        *("Who leaves next month?", "A call with an offer", "Everyone gets a letter", "1.5"),
        *("", ""),  # the task and the case to act upon are as proposed
        *("y", "0.5 * yearly_value", "-5", "-40", ""),
        *("perfectly", "find at least 60 % of them", ""),
        *("n", "n", "25"),
        *("Bo Chen (head of sales), Ann", "y"),
    ]

    code, shown = on_a_terminal(["init"], answers, table.parent)

    assert code == 0, shown
    assert "Did you mean 'churned'" in shown
    assert "Proposal: binary, because the target has two different values" in shown
    assert "no measure of success that is understood" in shown
    assert "understood as: recall at least 0.6" in shown
    problem = (loop := read_loop_file(table.parent / "loop.yaml").content).problem
    assert problem.target == "churned"
    assert problem.action == "A call with an offer"
    assert problem.today is not None
    assert problem.today.cost_per_case == 1.5
    assert problem.payoff == {
        "true_positive": "0.5 * yearly_value",
        "false_positive": -5,
        "false_negative": -40,
    }
    assert [str(each) for each in problem.criteria] == ["recall at least 0.6"]
    assert problem.constraints is not None
    assert (problem.constraints.latency_ms, problem.constraints.personal_data) == (25, False)
    assert [str(each) for each in problem.people] == ["Bo Chen (head of sales)", "Ann"]
    assert loop.deploy is not None
    assert loop.deploy.approve == "manual"


def test_a_name_may_come_with_a_role() -> None:
    assert person_said(" Bo Chen (head of sales) ") == ("Bo Chen", "head of sales")
    assert person_said("Ann") == ("Ann", "")
