"""A short soak of an endpoint: swaps, kills, a rollout and broken models under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak_endpoint.py"


@pytest.mark.slow
def test_an_endpoint_answers_right_whatever_is_done_to_it() -> None:
    ended = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--json", "--endpoint=house-prices"),
            *("--minutes=0.3", "--period=0.6"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert ended.stdout, ended.stderr
    figures = json.loads(ended.stdout)
    # memory is judged by the long soak: so short a one has only begun to fill its stores
    assert figures["failed"] == figures["wrong"] == figures["of a wrong version"] == 0, figures
    assert figures["answered"] > 100
    assert {"swap", "kill", "rollout", "break"} <= set(figures["done to it"])
    assert set(figures["by version"]) == {"a", "b"}
