"""What goes wrong with a request."""

from __future__ import annotations


class UnsupportedFormatError(Exception):
    """A media type that is not known."""

    def __init__(self, content_type: str) -> None:
        super().__init__(f"Content type {content_type} is not supported by this framework.")
