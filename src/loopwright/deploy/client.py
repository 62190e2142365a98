"""Ask an endpoint from Python: one kept-alive connection, standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import new_id
from loopwright.deploy.capture import plain_value

if TYPE_CHECKING:
    import http.client as http_client
else:
    # the endpoint's own process imports this package, too, and needs no client
    http_client = LazyModule("http.client")

_REFUSALS = frozenset({400, 413, 415})
_RETRYABLE = frozenset({408, 429, 502, 503, 504})


class EndpointClient:
    """Send rows and labels to one endpoint.

    Use it as a context manager, or call `close`. Not for use from two threads at once.

    Parameters
    ----------
    host, port
        Where the endpoint listens.
    token
        Bearer token of an endpoint that needs one.
    timeout_s
        How long to wait for one answer, in seconds.
    """

    def __init__(
        self, host: str, port: int, *, token: str | None = None, timeout_s: float = 60.0
    ) -> None:
        self._address = f"http://{host}:{port}"
        self._connection = http_client.HTTPConnection(host, port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._encode = msgspec.json.Encoder(enc_hook=plain_value).encode

    @classmethod
    def at(cls, url: str, *, token: str | None = None, timeout_s: float = 60.0) -> EndpointClient:
        """Return a client of the endpoint at `http://host:port`.

        Raises
        ------
        InvalidInputError
            If the URL has no host or port, or another scheme than http.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme != "http" or not parts.hostname or port is None:
            raise InvalidInputError(
                f"{url!r} is not the address of an endpoint.",
                hint="Give one such as http://127.0.0.1:8080.",
                field="url",
                value=url,
            )
        return cls(parts.hostname, port, token=token, timeout_s=timeout_s)

    def invoke(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        inference_ids: Sequence[str] | None = None,
        extras: Sequence[str] = (),
        variant: str | None = None,
        sticky_key: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return one answer for each row, in their order.

        Parameters
        ----------
        rows
            One or more rows of plain values; None is a missing value.
        inference_ids
            One for each row; made here when absent, so that a repeated request is recognised.
        extras
            What the model is to add to every answer, such as `interval`.
        variant
            Name of the variant that is to answer; the endpoint chooses when absent.
        sticky_key
            What your requests have in common, such as a customer's number: they are answered by the
            same variant.

        Returns
        -------
        list of dict
            Each with `prediction`, `inference_id`, `model_version` and, by task, `probability` or
            `probabilities`; where there are variants, `variant` says which one answered.

        Raises
        ------
        InvalidInputError
            If the endpoint refuses a row; the facts name row, field, value and what is expected.
        BackendError
            If the endpoint cannot be reached, is overloaded (`retryable`) or fails.
        """
        ids = _ids(rows, inference_ids)
        body = self._encode(
            [
                {**row, "inference_id": inference_id}
                for row, inference_id in zip(rows, ids, strict=True)
            ]
        )
        query = f"?with={quote(','.join(extras), safe=',')}" if extras else ""
        wishes = {"X-Amzn-SageMaker-Target-Variant": variant, "X-Sticky-Key": sticky_key}
        headers = {name: value for name, value in wishes.items() if value is not None}
        answer = self._request("POST", f"/invocations{query}", body, headers)
        shared = {name: answer[name] for name in ("model_version", "variant") if name in answer}
        return [{**each, **shared} for each in answer["predictions"]]

    def invoke_many(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        inference_ids: Sequence[str] | None = None,
        extras: Sequence[str] = (),
        batch_rows: int = 500,
        variant: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return one answer for each row, asked in batches; else as `invoke`."""
        ids = _ids(rows, inference_ids)
        answers: list[dict[str, Any]] = []
        for begin in range(0, len(rows), batch_rows):
            part = slice(begin, begin + batch_rows)
            answers += self.invoke(
                rows[part], inference_ids=ids[part], extras=extras, variant=variant
            )
        return answers

    def send_labels(self, labels: Mapping[str, Any]) -> int:
        """Send what turned out to be true, by inference id; return how many labels were taken in.

        When this returns they are on the endpoint's disk.
        """
        body = self._encode(
            [{"inference_id": name, "label": label} for name, label in labels.items()]
        )
        return int(self._request("POST", "/labels", body)["accepted"])

    def ping(self) -> dict[str, Any]:
        """Return the endpoint's state: `status`, `model_version`, `generation`, ..."""
        answer: dict[str, Any] = self._request("GET", "/ping")
        return answer

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def __enter__(self) -> EndpointClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        status, data = self._exchange(method, path, body, headers or {})
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise BackendError(
                f"{self._address} answered {status} with something that is not JSON.",
                hint="Check that a loopwright endpoint listens there.",
                status=status,
            ) from error
        if status < 300:
            return value
        raise _error(value, status=status, address=self._address)

    def _exchange(
        self, method: str, path: str, body: bytes | None, wishes: Mapping[str, str]
    ) -> tuple[int, bytes]:
        headers = {**self._headers, **wishes}
        if body is not None:
            headers["Content-Type"] = "application/json"
        # the endpoint may have closed a kept-alive connection just before this request
        was_open = self._connection.sock is not None
        for may_repeat in (was_open, False):
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http_client.HTTPException) as error:
                self._connection.close()
                if may_repeat and isinstance(error, ConnectionError):
                    continue
                raise BackendError(
                    f"{self._address} did not answer: {error or type(error).__name__}.",
                    hint="Check that the endpoint runs: loopwright endpoints.",
                    retryable=True,
                ) from error
        raise AssertionError("unreachable")


def _ids(rows: Sequence[Any], inference_ids: Sequence[str] | None) -> list[str]:
    ids = [new_id() for _ in rows] if inference_ids is None else list(inference_ids)
    if len(ids) != len(rows):
        raise InvalidInputError(
            f"There are {len(rows)} rows but {len(ids)} inference ids.",
            hint="Give one id for each row, or none.",
            field="inference_ids",
            value=len(ids),
            expected=len(rows),
        )
    return ids


def _error(value: Any, *, status: int, address: str) -> InvalidInputError | BackendError:
    facts = dict(value.get("error", {})) if isinstance(value, dict) else {}
    message = str(facts.pop("message", f"{address} answered {status}."))
    hint = str(facts.pop("hint", ""))
    if status in _REFUSALS:
        return InvalidInputError(message, hint=hint, **facts)
    retryable = status in _RETRYABLE
    return BackendError(message, hint=hint, retryable=retryable, status=status)
