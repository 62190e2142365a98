"""The house-price notebook runs as it stands, and the model that takes over is the better one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"
SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_and_ends_with_a_better_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "house-prices"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".loopwright"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.delenv("LOOPWRIGHT_HOME", raising=False)
    notebook = nbformat.read(folder / "house-prices.ipynb", as_version=4)
    told = "import json; print(json.dumps({'before': before, 'after': after}))"
    notebook.cells.append(nbformat.v4.new_code_cell(told))
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )

    try:
        client.execute()
    finally:
        stop_what_is_left(folder)

    error = json.loads(notebook.cells[-1].outputs[0]["text"])
    assert error["after"] < error["before"]


def stop_what_is_left(folder: Path) -> None:
    """Stop the endpoint if a cell failed before the notebook did."""
    import loopwright as lw

    home = folder / ".loopwright" / "notebook"
    if home.exists():
        lw.Loop(folder / "loop.yaml", home=home).stop()


def test_the_notebook_was_executed_from_top_to_bottom_without_an_error() -> None:
    cells = json.loads((EXAMPLE / "house-prices.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert (EXAMPLE / "house-prices.ipynb").stat().st_size < 300_000
