"""A user's own inference code behind an endpoint: what is asked of it, and how it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.capture import CapturedPrediction, CaptureLog, utc_text
from loopwright.deploy.code_pool import CodePool
from loopwright.deploy.code_process import Reply
from loopwright.deploy.code_settings import OWN_CODE, CodeSettings
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.labels import checked_inference_id
from loopwright.deploy.message import Request, Response, error_response
from loopwright.deploy.model import InputField, Served

_MEDIA_TYPE = re.compile(r"[\x20-\x7e]{1,200}")
_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", b"x-inference-id")
_MOST_CAPTURED_BYTES = 64 << 10
_SECRET_HEADERS = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


class _AnyRequest:
    """A signature that asks for nothing: only the code knows what it reads."""

    fields: Sequence[InputField] = ()

    def json_schema(self) -> Mapping[str, Any]:
        """Return a schema that anything fits."""
        return {}

    def check_row(self, row: Mapping[str, Any], *, index: int) -> Mapping[str, Any]:
        """Return the row."""
        return row


class OwnCodeModel:
    """A user's own code as a model that is served: whole requests go to it, no single rows."""

    task = OWN_CODE
    classes: Sequence[Any] | None = None
    extras: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self, name: str, pool: CodePool) -> None:
        self.name = name
        self.pool = pool
        self.signature = _AnyRequest()

    def check_extras(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return nothing; what an answer holds is up to the code."""
        if names:
            raise _not_by_rows()
        return ()

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        """Refuse: own code takes requests as they come, through `/invocations`."""
        raise _not_by_rows()

    def one_row(self) -> None:
        """Return nothing: requests go to the code as they come."""

    def whole_requests(self, *, after: bytes, head: bytes, tail: bytes) -> None:
        """Return nothing: requests go to the code as they come."""

    def with_unknown_columns(self, policy: Literal["ignore", "refuse"]) -> OwnCodeModel:
        """Return the model: it has no columns."""
        return self

    def with_unseen_categories(self, policy: Literal["allow", "refuse"]) -> OwnCodeModel:
        """Return the model: it has no categories."""
        return self

    def check_golden(self) -> None:
        """Return: own code brings no golden rows."""

    @property
    def is_ready(self) -> bool:
        """Whether the code has loaded its model and can be asked."""
        return self.pool.is_ready

    def close(self, *, after_s: float = 0.0, wait_s: float = 0.0) -> None:
        """End the code after a while; what waits is answered first."""
        self.pool.close(after_s=after_s)
        self.pool.join(wait_s)

    def answered(
        self, request: Request, served: Served, capture: CaptureLog | None, extras: Sequence[str]
    ) -> Steps[tuple[Response, int]]:
        """Hand a request to the code and return its answer, and how many rows it seems to have."""
        if extras:
            raise _not_by_rows()
        # own code is never waited for within the turn of another request
        yield None
        headers = request.headers
        base_id = _given_id(headers) or new_id()
        reply: Reply = yield self.pool.submit(
            request.body,
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            accept=headers.get(b"accept", b"").decode("latin-1"),
            headers={
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in headers.items()
                if name not in _SECRET_HEADERS
            },
        )
        if reply.status != 200:
            head = b"retry-after: 5\r\n" if reply.status == 503 else b""
            return error_response(reply.status, reply.message, headers=head, code=self.name), 0
        kind = reply.content_type if _MEDIA_TYPE.fullmatch(reply.content_type) else ""
        pairs = _captured(request.body, reply.body)
        if capture is not None:
            at = utc_text(datetime.now(UTC))
            made = [_prediction(base_id, at, served, pairs, place) for place in range(len(pairs))]
            capture.write(capture.encoded(made))
        line = f"x-inference-id: {base_id}\r\nx-model-version: {served.version}\r\n"
        if served.variant is not None:
            line += f"x-amzn-invoked-production-variant: {served.variant}\r\n"
        media = kind.encode() or b"application/octet-stream"
        response = Response(200, reply.body, media, headers=line.encode("latin-1", "replace"))
        return response, len(pairs)


def open_own_code(
    archive: Path, settings: CodeSettings, *, folder: Path, name: str, digest: str | None
) -> OwnCodeModel:
    """Return a user's own code, started and with its model loaded.

    Parameters
    ----------
    archive
        A `model.tar.gz` with `code/`, whose program has `model_fn` and the rest.
    folder
        Where it is unpacked and runs.
    name
        What the endpoint calls it.
    digest
        Of the archive, where it is known.

    Raises
    ------
    InvalidInputError
        If the archive cannot be used, or the code does not start; the message holds what it says.
    """
    pool = CodePool(
        settings,
        archive=archive,
        digest=digest or digest_file(archive),
        folder=folder,
        name=name,
    )
    pool.open()
    return OwnCodeModel(name, pool)


def _not_by_rows() -> InvalidInputError:
    return InvalidInputError(
        "This endpoint serves code of its own, which takes whole requests.",
        hint="POST to /invocations what its input_fn reads, without ?with=.",
        field="route",
        value=OWN_CODE,
    )


def _given_id(headers: Mapping[bytes, bytes]) -> str | None:
    for name in _ID_HEADERS:
        value = headers.get(name)
        if value is not None:
            return checked_inference_id(value.decode("latin-1"))
    return None


def _captured(body: bytes, answer: bytes) -> list[tuple[Mapping[str, Any], Any]]:
    """Return inputs and answers, row by row where both are JSON rows of one number, else as one."""
    asked, said = _value(body), _value(answer)
    if isinstance(asked, dict) and isinstance(asked.get("instances"), list):
        asked = asked["instances"]
    if isinstance(said, dict) and isinstance(said.get("predictions"), list):
        said = said["predictions"]
    if isinstance(asked, list) and isinstance(said, list) and len(asked) == len(said) > 0:
        return [(_row(row), each) for row, each in zip(asked, said, strict=True)]
    return [(_row(asked), said)]


def _value(data: bytes) -> Any:
    if len(data) > _MOST_CAPTURED_BYTES:
        return f"{len(data)} bytes"
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes"


def _row(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(place): each for place, each in enumerate(value)}
    return {"body": value}


def _prediction(
    base_id: str,
    at: str,
    served: Served,
    pairs: Sequence[tuple[Mapping[str, Any], Any]],
    place: int,
) -> CapturedPrediction:
    return CapturedPrediction(
        inference_id=base_id if len(pairs) == 1 else f"{base_id}:{place}",
        at=at,
        version=served.version,
        variant=served.variant,
        shadow=served.is_shadow,
        inputs=pairs[place][0],  # type: ignore[arg-type] # encoded at once, never changed
        prediction=pairs[place][1],
    )
