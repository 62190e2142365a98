"""The model of a job of Clarify while it is asked: served by an endpoint that nobody else sees."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import (
    CodeSettings,
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    wait_until_serving,
    write_desired,
)
from loopwright.sagemaker.clarify.layout import VARIABLES
from loopwright.sagemaker.clarify.predictor import Ask
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model_call import refusal_of
from loopwright.sagemaker.model_chain import Asked, called_chain

_START_S = 660.0
_TIMEOUT_S = 60.0
_LARGEST_BODY = 16 << 20
_TRIES = 3


@contextmanager
def asked_model(model: Mapping[str, Any], *, attributes: str | None = None) -> Iterator[Ask]:
    """Return what asks a model, which is served meanwhile unless an endpoint does already.

    Parameters
    ----------
    model
        What `order.json` says of it.
    attributes
        The custom attributes of every request.
    """
    if "port" in model:
        yield _ask(model, attributes)
        return
    place = Path(tempfile.mkdtemp(prefix="clarify-"))
    try:
        with _served(model, place) as port:
            yield _ask({**model, "port": port}, attributes)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _served(model: Mapping[str, Any], place: Path) -> Iterator[int]:
    endpoint = Endpoint("clarify", place)
    wanted = DesiredState(
        name="clarify",
        generation=1,
        port=free_port(),
        variants=tuple(_variant(number, each) for number, each in enumerate(model["containers"])),
        max_body_bytes=_LARGEST_BODY,
    )
    write_desired(place, wanted)
    process = subprocess.Popen(endpoint.command)
    try:
        state = wait_until_serving(
            place, generation=1, timeout_s=_START_S, is_alive=lambda: process.poll() is None
        )
        yield state.port or wanted.port
    finally:
        process.terminate()
        process.wait(20)


def _variant(number: int, about: Mapping[str, Any]) -> Variant:
    code = None
    if "code" in about:
        prefix = f"{VARIABLES}_{number}_"
        variables = {
            name.removeprefix(prefix): value
            for name, value in os.environ.items()
            if name.startswith(prefix)
        }
        code = msgspec.convert({**about["code"], "variables": variables}, CodeSettings)
    return Variant(
        name=about["own"],
        bundle=about["path"],
        version="1",
        bundle_digest=about["digest"],
        weight=0.0 if number else 1.0,
        code=code,
    )


def _ask(model: Mapping[str, Any], attributes: str | None) -> Ask:
    headers = {"x-amzn-sagemaker-custom-attributes": attributes or ""}

    def ask(body: bytes, content_type: str, accept: str) -> bytes:
        about = Asked(
            content_type=content_type,
            accept=accept,
            headers=headers,
            timeout_s=_TIMEOUT_S,
            is_batch=True,
        )
        for number in itertools.count(1):
            try:
                return called_chain(model, body, about).body
            except ApiError as error:
                status, said = refusal_of(error)
                if status < 500 or number >= _TRIES:
                    raise InvalidInputError(
                        f"An error occurred (ModelError) when calling the InvokeEndpoint operation: "
                        f"Received {'client' if status < 500 else 'server'} error ({status}) from "
                        f'primary with message "{said}".'
                    ) from error
                time.sleep(0.2 * 2**number)
        raise AssertionError  # it returns or raises

    return ask
