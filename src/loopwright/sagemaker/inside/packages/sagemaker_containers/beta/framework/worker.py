"""Answers of scripts."""

from __future__ import annotations

from typing import Any


class Response:
    """The body of an answer and its media type."""

    def __init__(
        self,
        response: Any = None,
        accept: str | None = None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        mimetype: str | None = None,
    ) -> None:
        self.response = response
        self.status_code = status
        self.headers = headers or {}
        self.mimetype = mimetype or accept
        self.content_type = self.mimetype
