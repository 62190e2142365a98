"""A workspace whose jobs leave a real model at once, and a small MLflow server."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.compute import InlineCompute, Job, JobSpec
from loopwright.compute.ledger import JOB_STREAM
from loopwright.core.clock import SystemClock
from loopwright.loop import Workspace
from loopwright.prepare import suggest
from loopwright.store import MemoryArtifactStore, MemoryMetadataStore
from loopwright.train import TrainingSpec, training_job
from loopwright.train.worker import do_training_job

TARGET = "price"
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], 'out', dirs_exist_ok=True)"


def houses(n_rows: int = 160) -> pl.DataFrame:
    """Return made-up sales."""
    rng = np.random.default_rng(3)
    area = rng.uniform(40, 300, n_rows).round(1)
    town = rng.choice(["Aa", "Bee"], n_rows)
    price = 1_000 * area * np.where(town == "Aa", 2.0, 1.0) + rng.normal(scale=5_000, size=n_rows)
    return pl.DataFrame({"area": area, "town": town, TARGET: price})


@pytest.fixture(scope="session")
def trained_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training job that was done: its order and what it left."""
    folder = tmp_path_factory.mktemp("trained")
    rows = houses()
    rows[:120].write_parquet(folder / "a.parquet")
    rows[120:].write_parquet(folder / "b.parquet")
    spec = TrainingSpec(algorithm="linear-learner", task="regression", target=TARGET)
    job = training_job(
        spec,
        name="houses",
        recipe=suggest(rows[:120], TARGET, "regression", family="linear").to_json(),
        train=folder / "a.parquet",
        validation=folder / "b.parquet",
    )
    for name, content in job.files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        (folder / name).write_bytes(data)
    do_training_job(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace in memory whose jobs have ended when they are submitted."""
    clock = SystemClock()
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=MemoryArtifactStore(tmp_path / "cache"),
        compute=InlineCompute(tmp_path / "jobs", clock),
        clock=clock,
        user="ann",
    )


Train = Callable[..., Job]


@pytest.fixture
def train(workspace: Workspace, trained_files: Path) -> Train:
    """Return a function that runs a training job, which leaves what one before it left."""

    def run(
        name: str = "houses/linear-learner",
        *,
        code: str = COPY,
        hyperparameters: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Job:
        order = msgspec.json.decode((trained_files / "training.json").read_bytes())
        order["hyperparameters"] = hyperparameters or {}
        files: dict[str, Any] = {
            each: trained_files / each
            for each in ("recipe.json", "train.parquet", "validation.parquet")
        }
        job = workspace.compute.submit(
            JobSpec(
                **{"key": f"training/{name}/{code}/{hyperparameters}", "kind": "training"} | fields,
                name=name,
                command=(sys.executable, "-I", "-S", "-c", code, str(trained_files / "out")),
                files={**files, "training.json": json.dumps(order).encode()},
                seed=7,
            )
        )
        # the inline backend keeps no events
        told = {"id": job.id, "key": job.key, "name": job.name, "reason": job.reason}
        workspace.metadata.append(JOB_STREAM, job.state.value, told)
        return job

    return run


@dataclass
class SmallMlflow:
    """What a small MLflow server holds, and how it misbehaves."""

    url: str = ""
    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refuse: Callable[[str], int | None] = lambda _: None
    """Returns a status to answer with, before anything is done."""
    lose: Callable[[str], bool] = lambda _: False
    """Tells whether to answer 503 after all was done: the answer is lost on the way."""

    def answer(self, what: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if what == "experiments/get-by-name":
            name = body["experiment_name"]
            if name not in self.experiments:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
            return 200, {"experiment": {"experiment_id": self.experiments[name]}}
        if what == "experiments/create":
            self.experiments[body["name"]] = str(len(self.experiments) + 1)
            return 200, {"experiment_id": self.experiments[body["name"]]}
        if what == "runs/create":
            return 200, {"run": self._created(body)}
        if what == "runs/search":
            return 200, {"runs": self._found(body)}
        run = self.runs[body["run_id"]]
        if what == "runs/log-batch":
            for each in body.get("metrics", ()):
                # the key of a metric in MLflow's own tables
                run["metrics"].add((each["key"], each["step"], each["timestamp"], each["value"]))
            for each in body.get("params", ()):
                if run["params"].setdefault(each["key"], each["value"]) != each["value"]:
                    return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "changed"}
            run["tags"] |= {each["key"]: each["value"] for each in body.get("tags", ())}
        elif what == "runs/update":
            run["info"] |= {"status": body["status"], "end_time": body["end_time"]}
        elif what == "runs/log-model":
            run["models"].append(json.loads(body["model_json"]))
        return 200, {}

    def _created(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"run{len(self.runs) + 1}"
        info = {
            "run_id": name,
            "experiment_id": body["experiment_id"],
            "artifact_uri": f"mlflow-artifacts:/{body['experiment_id']}/{name}/artifacts",
            "status": "RUNNING",
            "run_name": body["run_name"],
        }
        tags = {each["key"]: each["value"] for each in body["tags"]}
        self.runs[name] = {"info": info, "tags": tags, "params": {}, "metrics": set(), "models": []}
        return {"info": info}

    def _found(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        tag, value = re.fullmatch(r"tags\.`([^`]+)` = '([^']*)'", body["filter"]).groups()  # type: ignore[union-attr]
        return [
            {"info": run["info"]}
            for run in self.runs.values()
            if run["tags"].get(tag) == value
            and run["info"]["experiment_id"] in body["experiment_ids"]
        ]

    def curve(self, name: str) -> Sequence[tuple[int, float]]:
        """Return the values of a metric of the only run."""
        (run,) = self.runs.values()
        return sorted((step, value) for key, step, _, value in run["metrics"] if key == name)


class _Handler(BaseHTTPRequestHandler):
    state: SmallMlflow

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = parts.path.removeprefix("/api/2.0/mlflow/")
        self.state.calls.append(what)
        self.state.headers.append(dict(self.headers))
        status = self.state.refuse(what)
        told: dict[str, Any] = {"error_code": "REFUSED", "message": "as was asked for"}
        if status is None and self.command == "PUT":
            status, told = 200, {}
            self.state.artifacts[parts.path.partition("/artifacts/")[2]] = data
        elif status is None:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, told = self.state.answer(what, {**query, **json.loads(data or b"{}")})
            if self.state.lose(what):
                status = 503
        text = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 as the library wants them

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def small_mlflow() -> Iterator[SmallMlflow]:
    """Return a running server that answers as MLflow does, as far as publishing asks."""
    state = SmallMlflow()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
