"""Publishing to MLflow's own server, and loading what was published with MLflow's own client.

Runs where `LOOPWRIGHT_TEST_MLFLOW` names the `mlflow` program of an environment that holds MLflow and what loopwright needs to
answer, or where `mlflow` is on the path.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import loopwright
from loopwright.compute import Job
from loopwright.loop import Workspace
from loopwright.tune.mlflow_client import mlflow_client
from loopwright.tune.publication import Publication

PROGRAM = os.environ.get("LOOPWRIGHT_TEST_MLFLOW") or shutil.which("mlflow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(800),
    pytest.mark.skipif(PROGRAM is None, reason="MLflow is not installed"),
]

CHECK = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
found = client.search_runs([client.get_experiment_by_name("houses").experiment_id])
run = found[0]
model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
answers = model.predict(pd.DataFrame({"area": [100.0], "town": ["Aa"]}))
local = mlflow.pyfunc.load_model(sys.argv[2]).predict([{"area": 100.0, "town": "Aa"}])
print(json.dumps({
    "n_runs": len(found), "status": run.info.status, "params": run.data.params,
    "rmse": run.data.metrics["quality/rmse"], "answer": answers["prediction"][0],
    "local": local["prediction"][0],
}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(PROGRAM),
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
                "--backend-store-uri",
                f"sqlite:///{folder}/m.db",
                "--artifacts-destination",
                str(folder / "artifacts"),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/health", process)
            yield url
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 400
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 a local address
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail("the MLflow server did not start")


def test_a_job_appears_on_mlflows_own_server_and_its_model_loads(
    workspace: Workspace, train: Callable[..., Job], server: str, tmp_path: Path
) -> None:
    import json

    from loopwright.train.mlflow_flavor import write_mlflow_model

    job = train(labels={"loop": "houses"}, hyperparameters={"alpha": 0.25})
    publication = Publication(
        metadata=workspace.metadata,
        compute=workspace.compute,
        folder=tmp_path / "jobs",
        client=mlflow_client(server, {}),
        now=workspace.clock.now,
    )
    publication.take_news()
    for _ in range(10):
        passed = publication.deliver()
        # a busy machine answers late; what was done meanwhile is found
        if not passed.error:
            break
    assert (passed.n_done, passed.error, dict(passed.refused)) == (1, "", {})

    from loopwright.notebook.comparison import bundle_of

    folder = write_mlflow_model(
        bundle_of(workspace, job.id), tmp_path / "m", at=workspace.clock.now()
    )
    python = Path(str(PROGRAM)).parent / "python"
    source = Path(loopwright.__file__).parents[1]
    ran = subprocess.run(
        [str(python), "-c", CHECK, server, str(folder)],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert (told["n_runs"], told["status"], told["params"]["alpha"]) == (1, "FINISHED", "0.25")
    assert told["answer"] == told["local"] > 100_000
