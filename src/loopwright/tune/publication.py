"""Jobs, parameters, metrics and models brought to an MLflow server, while they run.

The store is the outbox: the events of jobs say what is new, a record for each job says how far it
has come there. A pass that is interrupted anywhere is taken up by the next one; a run is found
again by its tag, and values that arrive twice are the same values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.compute import Compute, Job, JobState
from loopwright.compute.ledger import JOB_STREAM
from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, LoopwrightError, NotFoundError
from loopwright.store import MetadataStore
from loopwright.train import AUTO, Outcome, model_members, pack_bundle
from loopwright.train.job import SPEC_FILE
from loopwright.train.mlflow_flavor import MODEL_FILE, mlflow_files
from loopwright.train.script_contract import ORDER_FILE
from loopwright.train.script_metric import read_metrics
from loopwright.train.script_result import read_script_result
from loopwright.tune.entry import KINDS, Entry, find_entry, model_name
from loopwright.tune.job import AUTO_FILE
from loopwright.tune.mlflow_client import MlflowClient, MlflowMetric, MlflowRun

JOB_TAG = "loopwright.job"
_CURSOR, _DUE, _RUN = "mlflow-cursor", "mlflow-due", "mlflow-run"
_FORMAT = 1
_PAGE = 1_000
_MODEL_PATH = "model"
_ENDS = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED", JobState.STOPPED: "KILLED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass over the outbox came to.

    Parameters
    ----------
    n_done
        Jobs that are whole on the server now.
    n_open
        Jobs that are under way, or wait for the server.
    error
        Why the server could not be used; empty if it could.
    refused
        What the server would not take, by the id of the job.
    """

    n_done: int
    n_open: int
    error: str = ""
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Brings the jobs of one home to one MLflow server.

    Parameters
    ----------
    folder
        Where this home's jobs have their folders; jobs elsewhere are other homes' to publish.
    client
        Of the server.
    now
        Tells the time.
    user
        Who runs the jobs.
    """

    metadata: MetadataStore
    compute: Compute
    folder: Path
    client: MlflowClient
    now: Callable[[], datetime]
    user: str = ""

    @property
    def place(self) -> str:
        """Names this home and server in the outbox."""
        return digest_value([str(self.folder), self.client.url]).removeprefix("sha256:")[:16]

    def take_news(self) -> int:
        """Put the jobs of which there is news into the outbox; return how many wait there."""
        record = self.metadata.find(_CURSOR, self.place)
        after = record.body["after"] if record else 0
        while events := self.metadata.list_events(JOB_STREAM, after=after, limit=_PAGE):
            after = events[-1].seq
            with self.metadata.transaction():
                for job_id in dict.fromkeys(str(event.body["id"]) for event in events):
                    self._put_due(job_id)
                self.metadata.put(_CURSOR, self.place, {"after": after, "url": self.client.url})
        return len(self._due())

    def deliver(self) -> Pass:
        """Bring to the server what is new of every job in the outbox.

        Never raises for what the server does: what cannot be delivered now stays, what the server
        refuses for good is noted and left.
        """
        n_done, n_open = 0, 0
        refused: dict[str, str] = {}
        due = self._due()
        for at, job_id in enumerate(due):
            try:
                is_done = self._deliver(job_id)
            except (LoopwrightError, KeyError, TypeError, ValueError, OSError) as error:
                reason = error.message if isinstance(error, LoopwrightError) else repr(error)
                if isinstance(error, BackendError) and error.retryable:
                    left = n_open + len(due) - at
                    return Pass(n_done=n_done, n_open=left, error=reason, refused=refused)
                # one job that the server cannot take must not hold up the others
                refused[job_id] = reason
                self._give_up(job_id, reason)
                continue
            n_done, n_open = n_done + is_done, n_open + (not is_done)
        return Pass(n_done=n_done, n_open=n_open, refused=refused)

    def states(self) -> list[dict[str, Any]]:
        """Return what is on record of every job that was published or waits: job, run, state."""
        found: list[dict[str, Any]] = []
        after = ""
        while page := self.metadata.list_(_RUN, prefix=f"{self.place}/", after=after):
            found += [{"job": r.key.rpartition("/")[2], **r.body} for r in page]
            after = page[-1].key
        return found

    # --- the outbox

    def _due(self) -> list[str]:
        found: list[str] = []
        after = ""
        while page := self.metadata.list_(_DUE, prefix=f"{self.place}/", after=after):
            found += [record.key.rpartition("/")[2] for record in page]
            after = page[-1].key
        return found

    def _put_due(self, job_id: str) -> None:
        state = self.metadata.find(_RUN, f"{self.place}/{job_id}")
        if state is None or state.body["state"] == "open":
            self.metadata.put(_DUE, f"{self.place}/{job_id}", {})

    def _give_up(self, job_id: str, reason: str) -> None:
        self._keep(job_id, {**self._state(job_id), "state": "refused", "reason": reason})

    def _state(self, job_id: str) -> dict[str, Any]:
        record = self.metadata.find(_RUN, f"{self.place}/{job_id}")
        return record.body if record else {"format": _FORMAT, "state": "open", "n_lines": 0}

    def _keep(self, job_id: str, state: Mapping[str, Any]) -> None:
        with self.metadata.transaction():
            self.metadata.put(_RUN, f"{self.place}/{job_id}", dict(state))
            if state["state"] != "open":
                self.metadata.delete(_DUE, f"{self.place}/{job_id}")

    # --- one job

    def _deliver(self, job_id: str) -> bool:
        """Bring one job up to date; return whether it is whole."""
        try:
            job = self.compute.get(job_id)
        except NotFoundError:
            job = None
        if job is None or job.kind not in KINDS or not job.folder.is_relative_to(self.folder):
            self.metadata.delete(_DUE, f"{self.place}/{job_id}")
            return True
        if job.state is JobState.QUEUED:
            return False
        state = self._state(job_id)
        if "run" not in state:
            state = {**state, **self._begun(job)}
            self._keep(job_id, state)
        run = MlflowRun(
            run_id=state["run"],
            experiment_id=state["experiment"],
            artifact_uri=state["artifact_uri"],
        )
        metrics = _metrics(job)
        if len(metrics) > state["n_lines"]:
            known = [each for each in metrics[state["n_lines"] :] if math.isfinite(each.value)]
            self.client.log(run.run_id, metrics=known)
            state = {**state, "n_lines": len(metrics)}
            self._keep(job_id, state)
        if not job.state.has_ended:
            return False
        self._keep(job_id, {**state, "state": "done", "reason": self._ended(job, run)})
        return True

    def _begun(self, job: Job) -> dict[str, Any]:
        """Return the run of a job: found by its tag, else created with what was ordered."""
        experiment = self.client.experiment_id(_experiment_name(job))
        run = self.client.find_run(experiment, tag=JOB_TAG, value=job.id)
        if run is None:
            run = self.client.create_run(
                experiment, name=job.name, start_ms=_start_ms(job), tags=self._tags(job)
            )
        ordered = _ordered(job)
        if ordered:
            self.client.log(run.run_id, params=_texts(ordered))
        return {
            "run": run.run_id,
            "experiment": run.experiment_id,
            "artifact_uri": run.artifact_uri,
        }

    def _tags(self, job: Job) -> dict[str, str]:
        try:
            code = self.compute.origin(job.id).code
        except NotFoundError:
            code = {}
        tags = {
            JOB_TAG: job.id,
            "loopwright.kind": job.kind,
            "mlflow.source.name": f"loopwright {job.kind}",
            "mlflow.source.type": "JOB",
            **{f"loopwright.{name}": value for name, value in job.labels.items()},
        }
        tags |= {"mlflow.user": self.user} if self.user else {}
        tags |= {"mlflow.source.git.commit": code["commit"]} if "commit" in code else {}
        return tags

    def _ended(self, job: Job, run: MlflowRun) -> str:
        """Tell how a job ended; return why its model did not go along, if it did not."""
        entry = find_entry(self.metadata, self.compute, job.id)
        ended_ms = _milliseconds(job.ended_at) or _start_ms(job)
        ordered = _ordered(job)
        rest = {name: value for name, value in entry.parameters.items() if name not in ordered}
        self.client.log(
            run.run_id,
            metrics=[
                MlflowMetric(name=name, step=0, value=float(value), at_ms=ended_ms)
                for name, value in _final(entry).items()
                if value is not None and math.isfinite(value)
            ],
            params=_texts({"algorithm": entry.algorithm, **rest}),
            tags=_closing_tags(entry),
        )
        why = self._model(job, entry, run) if job.state is JobState.SUCCEEDED else ""
        # last: a run that has ended is whole
        self.client.end_run(run.run_id, status=_ENDS[job.state], end_ms=ended_ms)
        return why

    def _model(self, job: Job, entry: Entry, run: MlflowRun) -> str:
        """Store the model of a job among the artifacts of its run; return why not, if not."""
        try:
            files, description = self._model_files(job, entry, run)
            for name, content in files.items():
                self.client.put_artifact(run, f"{_MODEL_PATH}/{name}", content)
            if description:
                self.client.log_model(run.run_id, description)
        except LoopwrightError as error:
            if isinstance(error, BackendError) and error.retryable:
                raise
            # the figures are worth telling without the model
            self.client.log(run.run_id, tags={"loopwright.model": error.message})
            return error.message
        return ""

    def _model_files(
        self, job: Job, entry: Entry, run: MlflowRun
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        if job.kind == "script":
            result = read_script_result(job.folder)
            # its format is its own: an archive, not a model that MLflow could open
            found = result.model if result else None
            return ({"model.tar.gz": found.read_bytes()} if found else {}), {}
        bundle = pack_bundle(
            model_members(job.folder),
            name=model_name(job.name),
            algorithm=entry.algorithm,
            outcome=Outcome(task=entry.task, classes=entry.classes),  # type: ignore[arg-type]
        )
        files = mlflow_files(
            bundle, run_id=run.run_id, artifact_path=_MODEL_PATH, at=job.ended_at or self.now()
        )
        return files, json.loads(files[MODEL_FILE])


def _metrics(job: Job) -> list[MlflowMetric]:
    """Return every value a job told so far; the same values with the same times whenever asked."""
    try:
        lines = read_metrics(job.out / "metrics.jsonl")
    except (OSError, ValueError):
        return []
    start = _start_ms(job)
    return [
        MlflowMetric(
            name=metric_name(str(each["name"])),
            step=int(each["step"]),
            value=math.nan if each["value"] is None else float(each["value"]),
            # built-in algorithms tell no times; made of the step, a second delivery is the same
            at_ms=int(each["at"] * 1_000) if "at" in each else start + int(each["step"]),
        )
        for each in lines
    ]


def metric_name(name: str) -> str:
    """Return a metric's name as MLflow takes it: `validation:rmse` becomes `validation/rmse`."""
    kept = "".join(each if each.isalnum() or each in "_-. /" else "_" for each in _slashed(name))
    # a name is a path there: none that leads elsewhere
    parts = [part for part in kept.split("/") if part.strip(". ")]
    return "/".join(parts)[:250] or "metric"


def _slashed(name: str) -> str:
    return name.replace(":", "/")


def _final(entry: Entry) -> dict[str, float | None]:
    return {
        **{f"quality/{name}": value for name, value in entry.quality.items()},
        "job/seconds": entry.seconds,
        "job/fit_s": entry.fit_s,
        "job/peak_memory_mib": entry.peak_memory_mib,
    }


def _closing_tags(entry: Entry) -> dict[str, str]:
    recipe = [[name, list(columns), reason] for name, columns, reason in entry.recipe]
    tags = {
        **{f"loopwright.data.{name.replace(' ', '_')}": d for name, d in entry.data.items()},
        **{f"loopwright.code.{name}": version for name, version in entry.code.items()},
        "loopwright.recipe": json.dumps(recipe, ensure_ascii=False) if recipe else "",
        "loopwright.seed": "" if entry.seed is None else str(entry.seed),
        "loopwright.task": entry.task,
        "loopwright.reason": entry.reason,
    }
    return {metric_name(name): value for name, value in tags.items() if value}


def _ordered(job: Job) -> dict[str, Any]:
    """Return the hyperparameters that were asked for; they do not change while the job runs."""
    file = {"script": ORDER_FILE, AUTO: AUTO_FILE}.get(job.kind, SPEC_FILE)
    try:
        order = json.loads((job.folder / file).read_bytes())
    except (OSError, ValueError):
        return {}
    if job.kind == AUTO:
        return {name: order[name] for name in ("budget_s", "metric", "divide_by") if name in order}
    given = order.get("hyperparameters", {})
    return dict(given) if isinstance(given, dict) else {}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        metric_name(name): value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in values.items()
    }


def _experiment_name(job: Job) -> str:
    """Return the MLflow experiment of a job: its loop, else what its name begins with."""
    return job.labels.get("loop") or job.name.partition("/")[0] or "loopwright"


def _start_ms(job: Job) -> int:
    return _milliseconds(job.started_at) or _milliseconds(job.submitted_at) or 0


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1_000)
