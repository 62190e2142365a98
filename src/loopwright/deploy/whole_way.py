"""The whole way in one step: a usual JSON body goes in, its answer comes out, captured."""

from __future__ import annotations

import msgspec

from loopwright.deploy.capture import CaptureLog, is_sampled, utc_now_text
from loopwright.deploy.model import Served, WholeRequests

# so many bytes are answered within a turn; more rows are worked on in turns
MAX_BYTES = 1 << 18


class WholeWay:
    """Answers usual bodies with one model, as `deploy/invocation.py` does to the last byte.

    For one thread. Whatever is not usual, bad rows too, is left to the long way, which says what is
    wrong with it.

    Parameters
    ----------
    requests
        What answers them.
    capture
        Where answers are captured; None for nowhere.
    """

    __slots__ = ("_answer", "_capture")

    def __init__(self, requests: WholeRequests, capture: CaptureLog | None) -> None:
        self._answer = requests.answer
        self._capture = capture

    def answer(self, body: bytes, inference_id: str) -> tuple[bytes, int] | None:
        """Return the answer to a JSON body and how many rows it predicts, captured.

        None where the long way has to be gone; nothing has been captured then.
        """
        log = self._capture
        if len(body) > MAX_BYTES:
            return None
        found = self._answer(body, inference_id, at=None if log is None else utc_now_text())
        if found is None:
            return None
        answer, lines, n_rows = found
        if log is not None and lines is not None:
            # before the answer: whoever has an answer can rely on its capture
            log.write(lines if log.share >= 1 else _sampled(lines, log.share))
        return answer, n_rows


def _sampled(lines: bytes, share: float) -> bytes:
    kept = [line for line in lines.splitlines(keepends=True) if _is_kept(line, share)]
    return b"".join(kept)


def _is_kept(line: bytes, share: float) -> bool:
    return is_sampled(msgspec.json.decode(line, type=_Line).inference_id, share=share)


class _Line(msgspec.Struct):
    inference_id: str


def find_whole_way(served: Served, capture: CaptureLog | None) -> WholeWay | None:
    """Return the whole way to the answers of a model; None if there is none."""
    if served.code is not None:
        return None
    version = msgspec.json.encode(served.version)
    after, tail = b',"model_version":' + version, b""
    if served.variant is not None:
        variant = b',"variant":' + msgspec.json.encode(served.variant)
        after, tail = after + variant, variant
    if served.is_shadow:
        tail += b',"shadow":true'
    requests = served.model.whole_requests(
        after=after, head=b',"version":' + version + b',"inputs":', tail=tail + b"}\n"
    )
    return None if requests is None else WholeWay(requests, capture)
