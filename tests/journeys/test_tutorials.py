"""The tutorial on training jobs runs as it stands, in less than a minute."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "training-jobs.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tutorial_runs_and_every_job_ends_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "docs" / "tutorials"
    folder.mkdir(parents=True)
    for name in ("house-prices/houses.parquet", "telecom-churn/churn.parquet"):
        data = Path("examples") / name
        (tmp_path / data).parent.mkdir(parents=True)
        shutil.copy(ROOT / data, tmp_path / data)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    for name in ("LOOPWRIGHT_HOME", "LOOPWRIGHT_COMPUTE"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    told = """import json
jobs = lw.jobs(home=HOME).reverse()
print(json.dumps({
    "states": jobs["state"].to_list(),
    "kinds": jobs["kind"].to_list(),
    "same": again.is_same,
    "stopped_after": stopped_after,
    "went_on": second.logs().splitlines()[0],
    "figures": [list(each.figures) for each in (job, leaving, together)],
}))"""
    notebook.cells.append(nbformat.v4.new_code_cell(told))
    resources = {"metadata": {"path": str(folder)}}

    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=resources).execute()

    found = json.loads(notebook.cells[-1].outputs[0]["text"])
    assert found["same"]
    assert found["kinds"] == ["training"] * 3 + ["script"] * 2 + ["training"] * 2
    assert found["states"] == ["succeeded"] * 3 + ["stopped"] + ["succeeded"] * 3
    assert 10 <= found["stopped_after"] < 60
    assert found["went_on"] == f"going on after epoch {found['stopped_after']}"
    assert all(found["figures"])


def test_the_tutorial_was_executed_from_top_to_bottom_without_an_error() -> None:
    text = TUTORIAL.read_text()
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert len(text) < 100_000
    assert str(ROOT) not in text
