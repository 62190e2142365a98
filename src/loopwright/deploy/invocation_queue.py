"""Requests that are answered later: a queue on disk that survives `kill -9`.

A request is a file from before it is acknowledged until after its answer is one. Who works on it holds
a lock on the file, which ends with the process; then another takes it up. An answer is written once
and never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopwright.core.errors import AlreadyExistsError, BackendError, InvalidInputError
from loopwright.deploy.message import Response

_ID = re.compile(r"[0-9a-f]{32}")
_REQUEST, _ANSWER, _TRIES = ".request", ".answer", ".tries"
_PRUNE_EVERY = 64


class FullQueueError(BackendError):
    """As many requests wait as may."""


class PostponedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits, without its body.

    Parameters
    ----------
    id
        32 hexadecimal digits; the answer is found under it.
    inference_id
        What its rows' ids are made of, so that a second try makes the same.
    headers
        Those that decide how it is read and answered.
    query
        Of its target.
    digest
        Of everything that decides the answer.
    at
        When it came: ISO 8601, UTC.
    """

    id: str
    inference_id: str
    headers: dict[str, str]
    query: str
    digest: str
    at: str


class _AnswerHead(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    status: int
    content_type: str
    headers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much may lie on the disk.

    Parameters
    ----------
    max_waiting, max_waiting_bytes
        Requests that wait; more are refused.
    max_kept, max_kept_bytes
        Answers; of more the oldest are forgotten.
    max_tries
        How often a request is taken up; one that ended its process so often is given up.
    """

    max_waiting: int = 1_000
    max_waiting_bytes: int = 1 << 30
    max_kept: int = 10_000
    max_kept_bytes: int = 1 << 30
    max_tries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A request that this process works on; `descriptor` holds its lock."""

    head: PostponedRequest
    body: bytes
    n_tries: int
    descriptor: int


class InvocationQueue:
    """Keep requests and their answers in a folder; several processes may share it.

    Every method waits for the disk. Calls of one process come one after the other, except `put` and
    `find`, which any thread may call.
    """

    def __init__(self, folder: Path, *, limits: QueueLimits | None = None) -> None:
        self.limits = limits or QueueLimits()
        self._waiting = folder / "waiting"
        self._answers = folder / "answers"
        self._paths: deque[Path] = deque()
        self._n_finished = 0

    def put(self, head: PostponedRequest, body: bytes) -> None:
        """Keep a request; when this returns it survives a power cut. The same one twice is kept once.

        Raises
        ------
        AlreadyExistsError
            If another request has the same id.
        FullQueueError
            If too many wait.
        BackendError
            If the disk is full or failing; nothing was kept.
        """
        try:
            if self._is_known(head):
                return
            self._waiting.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._answers.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_room(len(body))
            data = msgspec.json.encode(head) + b"\n" + body
            if not _put_once(self._path(head.id), data) and not self._is_known(head):
                # it was answered, and its answer forgotten, in this very moment
                raise BackendError("The request was just answered.", retryable=True)
        except OSError as error:
            raise BackendError(
                f"The request could not be kept: {error}.",
                hint="Make room or repair the disk, then send it again.",
                retryable=True,
            ) from error

    def find(self, request_id: str) -> Response | Literal["waiting"] | None:
        """Return an answer, `waiting`, or None where nothing is known under an id."""
        if not _ID.fullmatch(request_id):
            return None
        # in this order: an answer is there before its request goes
        is_waiting = self._path(request_id).exists()
        found = self._read_answer(request_id)
        if found is None:
            return "waiting" if is_waiting else None
        head, body = found
        return Response(
            head.status, body, head.content_type.encode(), headers=head.headers.encode("latin-1")
        )

    def backlog(self) -> tuple[int, float]:
        """Return how many requests wait or are worked on, and the age of the oldest in seconds."""
        times = [found.st_mtime for _, found in _files(self._waiting, _REQUEST)]
        return len(times), max(0.0, time.time() - min(times)) if times else 0.0

    def is_empty(self) -> bool:
        """Return whether no request waits or is worked on; quick enough for any thread."""
        return next(_files(self._waiting, _REQUEST), None) is None

    def claim(self) -> Claimed | None:
        """Return the oldest request that nobody works on; None if there is none.

        `finish` or `release` it. A request that has an answer, or has been tried too often, is
        settled here.
        """
        if not self._paths:
            entries = [(found.st_mtime_ns, path) for path, found in _files(self._waiting, _REQUEST)]
            self._paths.extend(path for _, path in sorted(entries))
        while self._paths:
            claimed = self._claimed(self._paths.popleft())
            if claimed is not None:
                return claimed
        return None

    def finish(self, claimed: Claimed, response: Response) -> None:
        """Keep the answer to a request, and let the request go."""
        head = _AnswerHead(
            digest=claimed.head.digest,
            status=response.status,
            content_type=response.content_type.decode("latin-1"),
            headers=response.headers.decode("latin-1"),
        )
        data = msgspec.json.encode(head) + b"\n" + response.body
        try:
            _put_once(self._answers / f"{claimed.head.id}{_ANSWER}", data)
            self._forget(self._path(claimed.head.id))
        finally:
            os.close(claimed.descriptor)
        self._n_finished += 1
        if self._n_finished % _PRUNE_EVERY == 1:
            self._prune()

    def release(self, claimed: Claimed) -> None:
        """Let a request be taken up again."""
        os.close(claimed.descriptor)

    # --- inside ---

    def _path(self, request_id: str) -> Path:
        return self._waiting / f"{request_id}{_REQUEST}"

    def _is_known(self, head: PostponedRequest) -> bool:
        known: str | None = None
        with contextlib.suppress(FileNotFoundError):
            known = _split(self._path(head.id).read_bytes(), PostponedRequest)[0].digest
        if known is None and (found := self._read_answer(head.id)) is not None:
            known = found[0].digest
        if known is not None and known != head.digest:
            raise AlreadyExistsError(
                f"Another request came with the inference id {head.inference_id!r}.",
                hint="Give every request an id of its own, or none.",
                field="inference_id",
                value=head.inference_id,
            )
        return known is not None

    def _read_answer(self, request_id: str) -> tuple[_AnswerHead, bytes] | None:
        try:
            data = (self._answers / f"{request_id}{_ANSWER}").read_bytes()
        except FileNotFoundError:
            return None
        return _split(data, _AnswerHead)

    def _check_room(self, n_bytes: int) -> None:
        sizes = [found.st_size for _, found in _files(self._waiting, _REQUEST)]
        limits = self.limits
        if len(sizes) >= limits.max_waiting or sum(sizes) + n_bytes > limits.max_waiting_bytes:
            raise FullQueueError(
                f"{len(sizes)} requests of {sum(sizes)} bytes wait to be answered.",
                hint="Send it again in a moment.",
                retryable=True,
            )

    def _claimed(self, path: Path) -> Claimed | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:  # answered while this process came to it
                os.close(descriptor)
                return None
            claimed = self._opened(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if claimed is None:
            os.close(descriptor)
        return claimed

    def _opened(self, path: Path, descriptor: int) -> Claimed | None:
        if (self._answers / f"{path.stem}{_ANSWER}").exists():
            # the process ended between the answer and the end of the request
            self._forget(path)
            return None
        n_tries = _counted(path.with_suffix(_TRIES))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
        head, body = _split(data, PostponedRequest)
        claimed = Claimed(head=head, body=body, n_tries=n_tries, descriptor=descriptor)
        if n_tries > self.limits.max_tries:
            message = f"The endpoint ended {n_tries - 1} times while it answered this request."
            given_up = msgspec.json.encode({"error": {"message": message}})
            self.finish(replace(claimed, descriptor=os.dup(descriptor)), Response(500, given_up))
            return None
        return claimed

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(_TRIES).unlink(missing_ok=True)

    def _prune(self) -> None:
        kept = [
            (found.st_mtime_ns, found.st_size, path)
            for path, found in _files(self._answers, _ANSWER)
        ]
        n_bytes = 0
        for number, (_, size, path) in enumerate(sorted(kept, reverse=True)):
            n_bytes += size
            if number >= self.limits.max_kept or n_bytes > self.limits.max_kept_bytes:
                path.unlink(missing_ok=True)


def postponed(
    *, inference_id: str, is_given: bool, headers: dict[str, str], query: str, body: bytes
) -> PostponedRequest:
    """Return what is kept of a request beside its body.

    With an inference id that was given the request's id follows from it: one that is sent twice is
    answered once.
    """
    content = msgspec.json.encode([sorted(headers.items()), query])
    return PostponedRequest(
        id=hashlib.sha256(inference_id.encode()).hexdigest()[:32] if is_given else uuid.uuid4().hex,
        inference_id=inference_id,
        headers=headers,
        query=query,
        digest=hashlib.sha256(content + b"\n" + body).hexdigest(),
        at=datetime.now(UTC).isoformat(),
    )


def _split(data: bytes, kind: type) -> tuple[Any, bytes]:
    head, _, body = data.partition(b"\n")
    try:
        return msgspec.json.decode(head, type=kind), body
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError("A file of the queue was damaged.", field="async") from error


def _put_once(path: Path, data: bytes) -> bool:
    """Write a file, whole or not at all, if there is none; return whether there was none."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _counted(path: Path) -> int:
    """Note one more try and return how many there were, this one included."""
    try:
        with path.open("ab") as file:
            file.write(b"x")
            return file.tell()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return 1  # a full disk is no reason to leave a request unanswered


def _files(folder: Path, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of a folder that are still there when they are looked at."""
    try:
        with os.scandir(folder) as entries:
            for each in entries:
                if each.name.endswith(suffix) and not each.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        yield Path(each.path), each.stat()
    except FileNotFoundError:
        return
