"""An answer that begins before it is known, as S3's does while it joins the parts of an upload.

Clients give up on a server that is silent for a minute. So the head goes out first, with the status
200, then a space now and then, then what there is to say, be it a refusal: XML allows spaces before
its first element, and clients look into this answer for an error.
"""

from __future__ import annotations

from loopwright.sagemaker.message import Answer, Request

PATIENCE_S = 10.0
SPACE = b"1\r\n \r\n"
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def may_be_slow(request: Request) -> bool:
    """Return whether a request may be answered in this way: one that completes an upload."""
    return request.method == "POST" and "uploadId" in request.query


def beginning() -> bytes:
    """Return the head and the first bytes of the answer."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ntransfer-encoding: chunked\r\n"
        b"connection: close\r\n\r\n"
    )
    return head + _chunk(_DECLARATION)


def rest(answer: Answer) -> bytes:
    """Return what follows once the answer is known."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    return _chunk(body.removeprefix(_DECLARATION)) + b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
