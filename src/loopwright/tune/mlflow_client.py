"""The few calls of MLflow's REST interface that publishing needs, with the standard library.

Importing `mlflow` takes seconds and some 200 MB; these calls need neither.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from loopwright.core.errors import BackendError, InvalidInputError

_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
_TIMEOUT_S = 20.0
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_METRICS, _MOST_PARAMS = 500, 90
_LONGEST_VALUE, _LONGEST_TAG = 6_000, 5_000
_MOST_ANSWER_BYTES = 32 << 20


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the credentials elsewhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowMetric:
    """One value of a metric; `at_ms` is milliseconds since 1970."""

    name: str
    step: int
    value: float
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRun:
    """A run of MLflow and where its artifacts go."""

    run_id: str
    experiment_id: str
    artifact_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowClient:
    """Talks to one MLflow tracking server.

    Parameters
    ----------
    url
        Of the server, without credentials.
    authorization
        The header that goes with every call; empty for none.

    Raises
    ------
    BackendError
        From every method: `retryable` when the server cannot be reached or is overwhelmed, not
        when it refuses what was asked.
    """

    url: str
    authorization: str = field(default="", repr=False)
    timeout_s: float = _TIMEOUT_S
    verify: bool = True

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment, made if there is none of that name."""
        try:
            found = self._get("experiments/get-by-name", {"experiment_name": name})
        except BackendError as error:
            if error.facts.get("code") != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            return str(found["experiment"]["experiment_id"])
        try:
            return str(self._post("experiments/create", {"name": name})["experiment_id"])
        except BackendError as error:
            if error.facts.get("code") != "RESOURCE_ALREADY_EXISTS":
                raise
            # someone else was faster
            found = self._get("experiments/get-by-name", {"experiment_name": name})
            return str(found["experiment"]["experiment_id"])

    def find_run(self, experiment_id: str, *, tag: str, value: str) -> MlflowRun | None:
        """Return the run of an experiment that carries a tag, or None."""
        told = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{tag}` = '{value}'",
            "max_results": 1,
        }
        runs = self._post("runs/search", told).get("runs", [])
        return _run(runs[0]) if runs else None

    def create_run(
        self, experiment_id: str, *, name: str, start_ms: int, tags: Mapping[str, str]
    ) -> MlflowRun:
        """Return a new run."""
        told = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": start_ms,
            "tags": _pairs(tags, _LONGEST_TAG),
        }
        return _run(self._post("runs/create", told)["run"])

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[MlflowMetric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write down values; what was written down before, with the same time, is not doubled."""
        values = [
            {"key": each.name, "value": each.value, "timestamp": each.at_ms, "step": each.step}
            for each in metrics
        ]
        for start in range(0, len(values), _MOST_METRICS):
            self._post(
                "runs/log-batch",
                {"run_id": run_id, "metrics": values[start : start + _MOST_METRICS]},
            )
        pairs = _pairs(params or {}, _LONGEST_VALUE)
        for start in range(0, len(pairs), _MOST_PARAMS):
            self._post(
                "runs/log-batch", {"run_id": run_id, "params": pairs[start : start + _MOST_PARAMS]}
            )
        if tags:
            self._post("runs/log-batch", {"run_id": run_id, "tags": _pairs(tags, _LONGEST_TAG)})

    def end_run(self, run_id: str, *, status: str, end_ms: int) -> None:
        """Say how a run ended: `FINISHED`, `FAILED` or `KILLED`."""
        self._post("runs/update", {"run_id": run_id, "status": status, "end_time": end_ms})

    def log_model(self, run_id: str, description: Mapping[str, Any]) -> None:
        """Say that a run has a model whose files are among its artifacts."""
        told = {"run_id": run_id, "model_json": json.dumps(description)}
        self._post("runs/log-model", told)

    def put_artifact(self, run: MlflowRun, name: str, content: bytes) -> None:
        """Store a file of a run through the server.

        Raises
        ------
        BackendError
            Also if the server does not take artifacts itself.
        """
        parts = urlsplit(run.artifact_uri)
        if parts.scheme != "mlflow-artifacts":
            raise BackendError(
                f"The MLflow server keeps artifacts at {parts.scheme or 'a folder'}: itself, and "
                "takes none.",
                hint="Start it with --serve-artifacts and --artifacts-destination.",
            )
        path = quote(f"{parts.path.strip('/')}/{name}")
        self._call("PUT", _ARTIFACTS + path, content, "application/octet-stream")

    def _get(self, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._call("GET", f"{_API}{what}?{urlencode(query)}", None, "application/json")

    def _post(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", _API + what, json.dumps(body).encode(), "application/json")

    def _call(self, method: str, path: str, body: bytes | None, kind: str) -> dict[str, Any]:
        headers = {"Content-Type": kind, "User-Agent": "loopwright"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        request = urllib.request.Request(  # noqa: S310 the scheme was checked by mlflow_client
            self.url + path, data=body, headers=headers, method=method
        )
        try:
            with self._opener().open(request, timeout=self.timeout_s) as answer:
                text = answer.read(_MOST_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read(1 << 16)) from None
        except (OSError, HTTPException) as error:
            raise BackendError(
                f"The MLflow server {self.url} cannot be reached: {_reason(error)}.",
                hint="Is it running, and is the address right?",
                retryable=True,
            ) from error
        try:
            value = json.loads(text or b"{}")
        except ValueError as error:
            raise BackendError(
                f"What answers at {self.url} is no MLflow server.",
                hint="Set LOOPWRIGHT_MLFLOW_URI to the address of `mlflow server`.",
            ) from error
        return value if isinstance(value, dict) else {}

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[urllib.request.BaseHandler] = [_Stay()]
        if not self.verify:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            handlers.append(urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers)


def mlflow_client(uri: str, environment: Mapping[str, str]) -> MlflowClient:
    """Return a client of the tracking server at a URI.

    Credentials come from the URI, or from `MLFLOW_TRACKING_TOKEN`, or from
    `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, as MLflow's own client takes them.

    Raises
    ------
    InvalidInputError
        If it is no http or https address.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        shown = parts.scheme or "none"
        raise InvalidInputError(
            f"The MLflow tracking URI has the scheme {shown!r}; only http and https are spoken.",
            hint="Start `mlflow server --backend-store-uri sqlite:///mlflow.db` and give its "
            "address, such as http://localhost:5000.",
            field="LOOPWRIGHT_MLFLOW_URI",
            value=shown,
        )
    name = f"[{host}]" if ":" in host else host
    where = f"{name}:{port}" if port else name
    url = urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", ""))
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    user = unquote(parts.username or "") or environment.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(parts.password or "") or environment.get("MLFLOW_TRACKING_PASSWORD", "")
    authorization = ""
    if token and not parts.username:
        authorization = f"Bearer {token}"
    elif user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        authorization = f"Basic {pair}"
    insecure = environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true"
    return MlflowClient(url=url, authorization=authorization, verify=not insecure)


def _run(value: Mapping[str, Any]) -> MlflowRun:
    info = value["info"]
    return MlflowRun(
        run_id=str(info["run_id"]),
        experiment_id=str(info["experiment_id"]),
        artifact_uri=str(info.get("artifact_uri", "")),
    )


def _pairs(values: Mapping[str, str], longest: int) -> list[dict[str, str]]:
    return [{"key": name[:250], "value": str(value)[:longest]} for name, value in values.items()]


def _refused(status: int, body: bytes) -> BackendError:
    try:
        told = json.loads(body)
        code, message = str(told.get("error_code", "")), str(told.get("message", ""))
    except (ValueError, AttributeError):
        code, message = "", ""
    said = message.strip().splitlines()[0][:300] if message.strip() else "no reason was given"
    hint = "Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    return BackendError(
        f"The MLflow server answered {status} {code}: {said}".strip(),
        hint=hint if status in (401, 403) else "Look at the server's log.",
        retryable=status in _RETRYABLE,
        code=code,
        status=status,
    )


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)
