"""Bodies on their way to a store: streamed where they can be, written down first where they cannot."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import HeldBody, Request
from loopwright.sagemaker.s3.checksum import encoded, new_sum, trailing_algorithm
from loopwright.sagemaker.s3.files import ChunkedBody, no_room, too_large

_HELD = 1 << 20
_SPOOLED_HELD = 4 << 20
_PIECE = 1 << 20
_LARGEST_BODY = 5 << 30
_DIGEST_LENGTH = 64
_UNSIGNED = "UNSIGNED-PAYLOAD"


class Passing:
    """Bytes that are compared with what the client signed while they pass.

    The last piece is kept back until the digest is known to be right, so that a store never gets
    the whole of a body that is wrong.
    """

    def __init__(self, pieces: Iterator[bytes], *, sha256: str) -> None:
        self._pieces = pieces
        self._wanted = sha256
        self.refusal: ApiError | None = None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces, once."""
        sha = hashlib.sha256() if self._wanted else None
        held = b""
        try:
            for piece in self._pieces:
                if sha is not None:
                    sha.update(piece)
                if held:
                    yield held
                held = piece
            if sha is not None and sha.hexdigest() != self._wanted:
                raise _mismatch()
        except ApiError as error:
            self.refusal = error
            raise
        if held:
            yield held


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A body as it is sent: bytes, or what yields them.

    Parameters
    ----------
    payload
        What stands for it in the signature.
    headers
        What has to be said of it; an empty one is left out.
    """

    data: bytes | Passing | Iterator[bytes]
    payload: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes) -> Outgoing:
        """Return a body that is in memory."""
        length = {"content-length": str(len(data))}
        return cls(data=data, payload=hashlib.sha256(data).hexdigest(), headers=length)

    @property
    def refusal(self) -> ApiError | None:
        """Why the body could not be read to its end."""
        return self.data.refusal if isinstance(self.data, Passing) else None


@contextmanager
def outgoing(request: Request, *, spool: Path) -> Iterator[Outgoing]:
    """Return the body of a request as a store can take it.

    Parameters
    ----------
    spool
        A folder for what has to be written down first.

    Raises
    ------
    ApiError
        If it is too large, torn, or not what was signed.
    """
    headers = request.headers
    said = headers.get("x-amz-content-sha256", "")
    codings = [each.strip() for each in headers.get("content-encoding", "").split(",")]
    is_chunked = said.startswith("STREAMING-") or "aws-chunked" in codings
    if said.startswith("STREAMING-AWS4"):
        raise ApiError("NotImplemented", "Chunks that are signed one by one are not checked here.")
    length = headers.get("content-length", "0" if isinstance(request.body, HeldBody) else "")
    if length.isdecimal() and int(length[:20]) > _LARGEST_BODY:
        raise too_large(int(length[:20]), _LARGEST_BODY)
    if is_chunked or not length.isdecimal():
        with _spooled(request, spool, is_chunked=is_chunked) as found:
            yield found
    elif isinstance(request.body, HeldBody):
        found = Outgoing.of(request.body.read(_HELD))
        if len(said) == _DIGEST_LENGTH and said != found.payload:
            raise _mismatch()
        yield found
    else:
        digest = said if len(said) == _DIGEST_LENGTH else ""
        yield Outgoing(
            data=Passing(request.body.pieces(), sha256=digest),
            payload=digest or _UNSIGNED,
            headers={"content-length": length},
        )


@contextmanager
def _spooled(request: Request, spool: Path, *, is_chunked: bool) -> Iterator[Outgoing]:
    """Return a body that has been written down, with the checksum that came after it."""
    headers = request.headers
    body = ChunkedBody(request.body.pieces()) if is_chunked else None
    pieces = iter(body) if body is not None else request.body.pieces()
    algorithm = trailing_algorithm(headers.get("x-amz-trailer", "")) if is_chunked else None
    total = new_sum(algorithm) if algorithm else None
    sha, size = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_HELD, dir=str(spool)) as file:
        try:
            for piece in pieces:
                size += len(piece)
                if size > _LARGEST_BODY:
                    raise too_large(size, _LARGEST_BODY)
                file.write(piece)
                sha.update(piece)
                if total is not None:
                    total.update(piece)
            file.seek(0)
        except OSError as error:
            raise no_room(error) from error
        codings = [each.strip() for each in headers.get("content-encoding", "").split(",")]
        kept = ",".join(each for each in codings if each not in ("", "aws-chunked"))
        found = {"content-length": str(size), "content-encoding": kept}
        if body is not None and algorithm and total is not None:
            name = f"x-amz-checksum-{algorithm.lower()}"
            found[name] = encoded(total.digest())
            if body.trailers.get(name) != found[name]:
                raise ApiError(
                    "BadDigest",
                    f"The {algorithm} you specified did not match the calculated checksum.",
                )
        said = headers.get("x-amz-content-sha256", "")
        if len(said) == _DIGEST_LENGTH and said != sha.hexdigest():
            raise _mismatch()
        data = file.read() if size <= _HELD else iter(lambda: file.read(_PIECE), b"")
        yield Outgoing(data=data, payload=sha.hexdigest(), headers=found)


def _mismatch() -> ApiError:
    return ApiError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
