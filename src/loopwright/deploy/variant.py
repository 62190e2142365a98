"""Several models behind one endpoint: which one answers a request."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import checked_name, new_id
from loopwright.deploy.code_settings import CodeSettings, checked_code
from loopwright.deploy.message import Request
from loopwright.deploy.model import Served

MAIN = "main"
TARGET_HEADER = b"x-amzn-sagemaker-target-variant"
# what a caller's requests have in common, most particular first
_KEY_HEADERS = (
    b"x-amzn-sagemaker-session-id",
    b"x-sticky-key",
    b"x-amzn-sagemaker-inference-id",
    b"x-inference-id",
)
# drawn apart from what capture draws of the same ids
_DRAW = b"loopwright-var"


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model behind an endpoint, and its part of the requests.

    Parameters
    ----------
    name
        What answers, metrics and the header `X-Amzn-SageMaker-Target-Variant` call it.
    bundle
        Absolute path of the `model.tar.gz`.
    version
        Version that every answer of this model carries.
    bundle_digest
        `sha256:<hex>` of that file; one with other bytes is not served. None takes it as it is.
    weight
        Its part of the requests, in proportion to the other weights; 0 answers only requests that
        ask for it by name.
    shadow
        Whether it is asked what the others are asked, after they have answered; nobody sees its
        answers but the capture.
    code
        Has the bundle taken as a user's own code with its model, run in a process of its own; None
        for a bundle made by `loopwright.train`.
    """

    name: str
    bundle: str
    version: int | str
    bundle_digest: str | None = None
    weight: float = 1.0
    shadow: bool = False
    code: CodeSettings | None = None


def checked_variants(variants: Sequence[Variant]) -> None:
    """Return if one endpoint can serve these variants.

    Raises
    ------
    InvalidInputError
        If two have one name, a weight is no weight, or no variant would answer.
    """
    names = [checked_name(variant.name, what="variant") for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise _refused(f"Two variants are called {name!r}.", name)
    for variant in variants:
        if variant.code is not None:
            checked_code(variant.code)
        if not (math.isfinite(variant.weight) and variant.weight >= 0):
            raise _refused(
                f"The weight of variant {variant.name!r} is {variant.weight}, which is no part of"
                " the requests.",
                variant.weight,
            )
    if not any(variant.weight > 0 for variant in variants if not variant.shadow):
        raise _refused("No variant would answer: each has the weight 0 or is a shadow.", names)


def _refused(message: str, value: object) -> InvalidInputError:
    return InvalidInputError(
        message,
        hint="Give every variant a name of its own, and one that is no shadow a weight above 0.",
        field="variants",
        value=value,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The opened models of an endpoint with variants.

    Parameters
    ----------
    live
        Those that answer, in the order they were listed.
    bounds
        For each of them the end of its part of the draws, 0 to 1.
    shadows
        Those that are asked afterwards.
    """

    live: tuple[Served, ...]
    bounds: tuple[float, ...]
    shadows: tuple[Served, ...] = ()

    @classmethod
    def of(cls, variants: Sequence[Variant], served: Sequence[Served]) -> Fleet:
        """Return the fleet of some variants and their models, in the same order."""
        pairs = list(zip(variants, served, strict=True))
        live = [(variant, model) for variant, model in pairs if not variant.shadow]
        total = math.fsum(variant.weight for variant, _ in live)
        ends = accumulate(variant.weight / total for variant, _ in live)
        return cls(
            live=tuple(model for _, model in live),
            bounds=tuple(ends),
            shadows=tuple(model for variant, model in pairs if variant.shadow),
        )

    def chosen(self, request: Request) -> Served:
        """Return the model that answers a request.

        The draw depends on the caller's key alone, so a caller stays with a variant while weights
        stay; where the weight of the variant listed last grows, those who had it keep it.

        Raises
        ------
        InvalidInputError
            If the request names a variant that does not answer.
        """
        name = request.headers.get(TARGET_HEADER)
        if name is not None:
            return named(self.live, name)
        if len(self.live) == 1:
            return self.live[0]
        place = bisect_right(self.bounds, draw(_key(request)))
        # one with the weight 0 has no part; sums of shares may end just below 1
        return self.live[place] if place < len(self.live) else self.live[self._last()]

    def _last(self) -> int:
        return bisect_right(self.bounds, self.bounds[-1] - 1e-12)


def named(live: Sequence[Served], name: bytes) -> Served:
    """Return the model of the variant that a request asks for by name."""
    asked = name.decode("latin-1")
    for served in live:
        if (served.variant or MAIN) == asked:
            return served
    known = [served.variant or MAIN for served in live]
    raise InvalidInputError(
        f"No variant {asked[:80]!r} answers here; there are {', '.join(known)}.",
        hint="Name one of them in X-Amzn-SageMaker-Target-Variant, or leave the header out.",
        field="X-Amzn-SageMaker-Target-Variant",
        value=asked[:80],
        expected=known,
    )


def draw(key: bytes) -> float:
    """Return a number from 0 up to 1 that depends on a key alone, evenly spread over keys."""
    hashed = hashlib.blake2b(key, digest_size=6, person=_DRAW).digest()
    return int.from_bytes(hashed, "big") / 2**48


def _key(request: Request) -> bytes:
    headers = request.headers
    for name in _KEY_HEADERS:
        value = headers.get(name)
        if value is not None:
            return value
    if b'"inference_id"' in request.body:
        return request.body  # a request sent twice is answered by the same variant
    # answered under the id that was drawn with
    made = request.headers[_KEY_HEADERS[-1]] = new_id().encode()
    return made
