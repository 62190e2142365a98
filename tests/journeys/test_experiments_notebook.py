"""The tutorial on experiments runs as it stands, and what it reproduces comes out the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "experiments.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tutorial_runs_and_does_its_results_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "docs" / "tutorials"
    ignored = shutil.ignore_patterns(".loopwright")
    shutil.copytree(TUTORIAL.parent, folder, ignore=ignored)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.delenv("LOOPWRIGHT_HOME", raising=False)
    notebook = nbformat.read(folder / TUTORIAL.name, as_version=4)
    told = (
        "import json; done = lw.reproduce(auto, home=home); "
        "print(json.dumps({'same': done.is_same, 'experiments': len(found.trials)}))"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(told))

    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()

    assert json.loads(notebook.cells[-1].outputs[0]["text"]) == {"same": True, "experiments": 8}
    assert (folder / ".loopwright" / "experiments" / "leaves.html").stat().st_size > 10_000


def test_the_tutorial_was_executed_from_top_to_bottom_without_an_error() -> None:
    cells = json.loads(TUTORIAL.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert "the same, bit for bit" in TUTORIAL.read_text()
    assert TUTORIAL.stat().st_size < 300_000
