"""The tutorial "is it machine learning?" reaches its five verdicts as it stands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "is-it-ml.ipynb"
DATA = ("house-prices/houses.parquet", "telecom-churn/churn.parquet")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tutorial_runs_and_reaches_its_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "docs" / "tutorials"
    folder.mkdir(parents=True)
    for name in DATA:
        copy = tmp_path / "examples" / name
        copy.parent.mkdir(parents=True)
        shutil.copy(ROOT / "examples" / name, copy)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    for name in ("LOOPWRIGHT_HOME", "LOOPWRIGHT_COMPUTE"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    resources = {"metadata": {"path": str(folder)}}

    NotebookClient(notebook, timeout=400, kernel_name="python3", resources=resources).execute()

    assert _states(notebook.cells) == _states(nbformat.read(TUTORIAL, as_version=4).cells)


def _states(cells: list) -> list[str]:  # type: ignore[type-arg]
    """Return the exit code and the state of every run, as the notebook prints them."""
    texts = [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]
    return [text.splitlines()[0] for text in texts if text.startswith("exit code")]


def test_the_tutorial_was_executed_and_shows_the_five_verdicts() -> None:
    text = TUTORIAL.read_text()
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    printed = "".join("".join(output.get("text", "")) for output in outputs)

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert printed.count("exit code 0: live") == 3
    assert printed.count("exit code 0: rule enough") == 1
    assert printed.count("exit code 4: not ml") == 2
    assert len(text) < 100_000
    assert str(ROOT) not in text
