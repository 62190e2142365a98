"""Copies of requests for shadow variants that the endpoint's own process cannot ask by itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.invocation_target import reply_of
from loopwright.sagemaker.model_chain import Asked
from loopwright.store import Record

_log = logging.getLogger(__name__)
_MOST_WAITING = 64
_threads = ThreadPoolExecutor(2, thread_name_prefix="shadow")
_room = threading.BoundedSemaphore(_MOST_WAITING)


def copy_to_shadows(
    desk: Desk,
    caller: Caller,
    record: Record,
    given: Mapping[str, Any],
    body: bytes,
    asked: Asked,
) -> None:
    """Have shadow variants asked what was asked, where a variant has several containers.

    Nobody waits for them; what they take too long for is left out. Other endpoints ask their shadows
    themselves.
    """
    variants = record.body["live"]["variants"]
    if not any("containers" in each for each in variants):
        return
    for variant in variants:
        if variant["shadow"] and _room.acquire(blocking=False):
            _threads.submit(_ask, desk, caller, record, variant, given, body, asked)


def _ask(
    desk: Desk,
    caller: Caller,
    record: Record,
    variant: Mapping[str, Any],
    given: Mapping[str, Any],
    body: bytes,
    asked: Asked,
) -> None:
    try:
        reply_of(desk, caller, record, variant, given, body, asked)
    except (ApiError, LoopwrightError) as error:
        _log.info("The shadow %s of %s failed: %s", variant["name"], record.body["name"], error)
    except Exception:
        _log.exception("The shadow %s of %s failed.", variant["name"], record.body["name"])
    finally:
        _room.release()
