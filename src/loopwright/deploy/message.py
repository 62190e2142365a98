"""One HTTP request and one HTTP answer, as values."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_SAFETY_LINES = (
    b"x-content-type-options: nosniff\r\n"
    b"cache-control: no-store\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)
_LONGEST_SHOWN = 200


class Request:
    """One whole request.

    Parameters
    ----------
    method, target
        As they came; the target is not decoded.
    headers
        Names in lower case; a repeated header holds its values joined by a comma.
    received_at
        Seconds on the event loop's clock.
    route
        The path of the route that answers, for the metrics.
    variant
        The variant that answers, for the metrics; None where the endpoint has no variants.
    """

    __slots__ = ("body", "headers", "method", "received_at", "route", "target", "variant")

    def __init__(
        self, *, method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes = b""
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.received_at = 0.0
        self.route = "other"
        self.variant: str | None = None

    @property
    def path(self) -> bytes:
        """The path of the target, without its query; of `http://host/path`, too."""
        target = self.target
        if not target.startswith(b"/") and b"://" in target:
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        return target.partition(b"?")[0]


class Response(msgspec.Struct, frozen=True):
    """One whole answer; `headers` are complete lines, each with its CRLF."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: bytes = b""

    def to_bytes(self, *, closes: bool, has_body: bool, date_line: bytes = b"") -> bytes:
        """Return the answer as it goes over the wire."""
        return b"".join(
            (
                _STATUS_LINES[self.status],
                b"content-type: ",
                self.content_type,
                b"\r\ncontent-length: %d\r\n" % len(self.body),
                date_line,
                _SAFETY_LINES,
                self.headers,
                b"connection: close\r\n\r\n" if closes else b"\r\n",
                self.body if has_body else b"",
            )
        )


def error_response(status: int, message: str, *, headers: bytes = b"", **facts: Any) -> Response:
    """Return `{"error": {"message": ..., **facts}}`; facts that are not plain JSON become text."""
    shown = {name: shortened(fact) for name, fact in facts.items()}
    body = msgspec.json.encode({"error": {"message": message, **shown}})
    return Response(status, body, headers=headers)


def shortened(value: Any) -> Any:
    """Return a value that is safe to send back: small and made of plain JSON types."""
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)[:64]
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return [each[:_LONGEST_SHOWN] for each in value[:50]]
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    # a lone surrogate cannot be encoded
    return text[:_LONGEST_SHOWN].encode(errors="replace").decode()
