"""A request to a model of several containers: through all of them in order, or to one that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model_call import TIMEOUT_S, Said, called_model

Found: TypeAlias = Callable[[int], AbstractContextManager[Mapping[str, Any]]]

_FROM = " from primary with message "


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model is asked beside the body; see `called_model`."""

    content_type: str = ""
    accept: str = ""
    headers: Mapping[str, str] | None = None
    log: str = ""
    timeout_s: float = TIMEOUT_S
    is_batch: bool = False


def called_chain(
    variant: Mapping[str, Any],
    body: bytes,
    asked: Asked,
    *,
    target: str | None = None,
    find: Found | None = None,
) -> Said:
    """Return what the last container answers, or the one that is named.

    Each is given what the one before it answered, as the media type that that one said. What a
    container before the last is asked for is what its own environment says, or else what the client
    wants of all.

    Parameters
    ----------
    target
        The name of the one container that is asked.
    find
        Gives a container by its number as it can be asked; as it stands where this is None.

    Raises
    ------
    ApiError
        `ModelError` if one does not answer; it names the container.
    """
    containers = variant["containers"]
    places = [
        place for place, each in enumerate(containers) if target is None or each["host"] == target
    ]
    kind, attributes = asked.content_type, None
    for place in places:
        container = containers[place]
        is_last = place == places[-1]
        accept = asked.accept if is_last else container["accept"] or asked.accept
        with find(place) if find else nullcontext(container) as known:
            try:
                said = called_model(
                    {"port": variant.get("port"), **known},
                    body,
                    content_type=kind,
                    accept=accept,
                    headers=asked.headers,
                    log=asked.log,
                    timeout_s=asked.timeout_s,
                    # rows for the next one stand in lines
                    is_batch=asked.is_batch or not is_last,
                )
            except ApiError as error:
                if len(containers) == 1:
                    raise
                raise _named(error, container["host"]) from error
        body, kind = said.body, said.kind
        attributes = said.attributes or attributes
    return Said(body=body, kind=kind, attributes=attributes)


def _named(error: ApiError, host: str) -> ApiError:
    """Return a refusal that says which container refused."""
    message = error.message.replace(_FROM, f" from {host} with message ", 1)
    return ApiError(error.code, message, status=error.status, **error.extra)
