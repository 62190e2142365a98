"""The process of a processing job, on a machine that gives it no view of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopwright.train.script_contract import ScriptOrder

WORK = """
import sys
from loopwright.train import script_run
from loopwright.sagemaker import processing_worker

def refuse(*_, **__):
    raise PermissionError(1, "not permitted")

script_run.enter_private_view = refuse
script_run.shutil.which = lambda name, path=None: None if name == "bwrap" else "/bin/" + name
sys.exit(processing_worker.main())
"""


def worked(folder: Path, *command: str, **order: Any) -> dict[str, Any]:
    """Run a job where neither namespaces nor bubblewrap are to be had; return its result."""
    (folder / "out").mkdir()
    wanted = ScriptOrder(
        name="job",
        entry_point="process",
        python=sys.executable,
        environments=str(folder / "environments"),
        command=command,
        contract="processing",
        **order,
    )
    (folder / "script.json").write_text(json.dumps(wanted.to_json()))
    about = {"folders": ["processing/out"], "copies": {}, "request": {"ProcessingJobName": "job"}}
    (folder / "request.json").write_text(json.dumps(about))
    subprocess.run([sys.executable, "-c", WORK], cwd=folder, check=False, capture_output=True)
    found: dict[str, Any] = json.loads((folder / "out" / "processing.json").read_bytes())
    return found


@pytest.mark.parametrize("inputs", [{}, {"processing/in": "/"}])
def test_a_command_that_names_its_folders_is_refused_and_says_what_to_do(
    tmp_path: Path, inputs: dict[str, str]
) -> None:
    words = ("sh", "-c", "true" if inputs else "ls /opt/ml/processing/out")

    found = worked(tmp_path, *words, folders=inputs)

    assert found["exit_code"] is None
    assert found["failure"].startswith("The command has the path /opt/ml written into it")
    assert "Install bubblewrap" in found["failure"]


def test_a_command_that_takes_its_folder_from_the_environment_runs(tmp_path: Path) -> None:
    words = ("sh", "-c", 'cd "$SAGEMAKER_BASE_DIR"; echo it >processing/out/a; echo no >&2; exit 4')

    found = worked(tmp_path, *words)

    assert (found["exit_code"], found["failure"], found["message"]) == (4, "no", "")
    assert (tmp_path / "ml" / "processing" / "out" / "a").read_text() == "it\n"
    told = json.loads((tmp_path / "ml" / "config" / "processingjobconfig.json").read_bytes())
    assert told == {"ProcessingJobName": "job"}
