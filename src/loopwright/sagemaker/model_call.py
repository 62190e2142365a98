"""One request to a model behind an endpoint of this machine, in the forms of its algorithm."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.invocation_form import answer_of, csv_of, model_error

TIMEOUT_S = 60.0
_MOST_IDLE = 64
_SHOWN = 1024
# how the endpoint introduces what a script says
_FAILED = "The code of this endpoint failed. "
_TARGET = "x-amzn-sagemaker-target-variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer: its body, its media type, and the custom attributes beside it."""

    body: bytes
    kind: str
    attributes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a process on this machine is asked: the body and the headers of `POST /invocations`."""

    port: int
    body: bytes
    headers: Mapping[str, str]


class Connections:
    """Connections to processes on this machine that are kept open; any thread may ask."""

    def __init__(self) -> None:
        self._idle: dict[int, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    def ask(
        self, port: int, body: bytes, headers: Mapping[str, str], *, timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and headers of `POST /invocations`."""
        with self._lock:
            known = self._idle.get(port)
            connection = known.pop() if known else None
        if connection is not None:
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            try:
                return self._asked(connection, port, body, headers)
            except (http.client.HTTPException, ConnectionError):
                connection.close()  # it was closed while it was idle
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        return self._asked(fresh, port, body, headers)

    def _asked(
        self,
        connection: http.client.HTTPConnection,
        port: int,
        body: bytes,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes, Mapping[str, str]]:
        connection.request("POST", "/invocations", body=body, headers=dict(headers))
        got = connection.getresponse()
        found = got.status, got.read(), {k.lower(): v for k, v in got.getheaders()}
        if not got.will_close:
            with self._lock:
                idle = self._idle.setdefault(port, [])
                if len(idle) < _MOST_IDLE:
                    idle.append(connection)
                    return found
        connection.close()
        return found


_connections = Connections()


def called_model(
    variant: Mapping[str, Any],
    body: bytes,
    *,
    content_type: str = "",
    accept: str = "",
    headers: Mapping[str, str] | None = None,
    log: str = "",
    timeout_s: float = TIMEOUT_S,
    is_batch: bool = False,
) -> Said:
    """Return what a model answers.

    Parameters
    ----------
    variant
        Its `port`, its `own` name there, its `kind` and, of a built-in algorithm, its `settings`.
    headers
        What else it is told.
    log
        Where a client finds more about a failure.
    is_batch
        Whether it is one of many requests of a batch, whose values stand in lines.

    Raises
    ------
    ApiError
        `ModelError` if it does not answer.
    """
    asked = question(variant, body, content_type=content_type, accept=accept, headers=headers)
    try:
        got = _connections.ask(asked.port, asked.body, asked.headers, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise no_answer(error, log=log) from error
    return said(variant, got, accept=accept, log=log, is_batch=is_batch)


def question(
    variant: Mapping[str, Any],
    body: bytes,
    *,
    content_type: str = "",
    accept: str = "",
    headers: Mapping[str, str] | None = None,
) -> Question:
    """Return what the process of a variant is asked; see `called_model`."""
    given = {"content-type": content_type, "accept": accept, **(headers or {})}
    sent = {key: value for key, value in given.items() if value}
    settings = variant.get("settings")
    if settings:
        body = csv_of(body, content_type, settings)
        sent |= {"content-type": "text/csv; header=absent", "accept": "application/json"}
    sent[_TARGET] = variant["own"]
    return Question(port=variant["port"], body=body, headers=sent)


def said(
    variant: Mapping[str, Any],
    got: tuple[int, bytes, Mapping[str, str]],
    *,
    accept: str = "",
    log: str = "",
    is_batch: bool = False,
) -> Said:
    """Return an answer, of which `got` is status, body and headers; see `called_model`."""
    status, answer, told = got
    if status >= 400:
        raise model_error(status, _refused(variant, answer), log=log)
    kind = told.get("content-type", "application/octet-stream")
    settings = variant.get("settings")
    if settings:
        answer, kind = answer_of(answer, accept, settings, is_batch=is_batch)
    return Said(body=answer, kind=kind, attributes=told.get("x-amzn-sagemaker-custom-attributes"))


def no_answer(error: Exception, *, log: str = "") -> ApiError:
    """Return the error of a model whose process does not answer."""
    return model_error(500, f"The model did not answer: {error}", log=log)


def refusal_of(error: ApiError) -> tuple[int, str]:
    """Return the status and the words with which a model refused."""
    status = error.extra.get("OriginalStatusCode")
    said = str(error.extra.get("OriginalMessage", error.message))
    return (status if isinstance(status, int) else error.status), said


def _refused(variant: Mapping[str, Any], answer: bytes) -> str:
    """Return what a model that did not answer has said; of a script its own words."""
    if variant["kind"] == "script":
        with contextlib.suppress(ValueError, LookupError, TypeError):
            text = str(json.loads(answer)["error"]["message"])
            return text.removeprefix(_FAILED)[:_SHOWN]
    return answer[:_SHOWN].decode(errors="replace")
