"""Starting is cheap: heavy libraries load where they are first used, and not before."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "jinja2",
    "lightgbm",
    "numpy",
    "obstore",
    "pandas",
    "polars",
    "psutil",
    "pyarrow",
    "sklearn",
    "sqlalchemy",
    "xgboost",
    "yaml",
}
TRAINING = {"lightgbm", "pandas", "polars", "sklearn", "sqlalchemy", "xgboost"}

HELP = """
from loopwright.cli.main import cli
try:
    cli(["--help"], prog_name="loopwright")
except SystemExit as end:
    assert end.code == 0
"""


def loaded(code: str) -> set[str]:
    """Return the top-level modules that are there after some code, in a fresh interpreter."""
    told = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + told], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "kept_out"),
    [
        ("import loopwright", HEAVY),
        (HELP, HEAVY),
        ("import loopwright.deploy.server", TRAINING),
    ],
    ids=["import loopwright", "loopwright --help", "the endpoint's process"],
)
def test_what_starts_often_loads_no_heavy_library(code: str, kept_out: set[str]) -> None:
    found = loaded(code)

    assert found & kept_out == set()
    assert "loopwright" in found


def test_the_check_would_see_a_heavy_library() -> None:
    assert "numpy" in loaded("from loopwright.problem.mean import np; np.zeros(1)")
