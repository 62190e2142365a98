"""A connection to an S3-compatible store: its keys, its signatures, its client."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.error import ApiError, StoreAwayError
from loopwright.sagemaker.s3.place import StorePlace

botocore_exceptions: Any = LazyModule("botocore.exceptions")

_log = logging.getLogger(__name__)
_CONNECT_S, _READ_S = 5, 60
_MOST_CONNECTIONS = 48
_TRIES = 4
_AGENT = "loopwright"
_KEYS_HINT = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where the server is started, or name a "
    "profile of ~/.aws/credentials in LOOPWRIGHT_S3_PROFILE."
)
REFUSED_KEYS = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""What a store says of our own keys and signatures, and never of those of a client."""


class Connection:
    """A connection to a store; any thread may use it.

    Parameters
    ----------
    place
        Where the store is.

    Attributes
    ----------
    client
        A client of botocore's for it, for the server's own objects.

    Raises
    ------
    InvalidInputError
        If no keys are found.
    """

    def __init__(self, place: StorePlace) -> None:
        from botocore.httpsession import URLLib3Session
        from botocore.session import Session
        from botocore.utils import get_environ_proxies

        self.url = place.url
        session = Session(profile=place.profile)
        try:
            self._credentials = session.get_credentials()
            found = session.get_config_variable("region")
            bundle = session.get_config_variable("ca_bundle")
        except botocore_exceptions.BotoCoreError as error:
            raise _no_keys(f"The keys of the S3 store cannot be read: {error}") from error
        if self._credentials is None:
            raise _no_keys(f"There are no keys for the S3 store at {place.url}.")
        self.region = place.region or found or "us-east-1"
        self.client = session.create_client(
            "s3", endpoint_url=place.url, region_name=self.region, config=_config()
        )
        self._http = URLLib3Session(
            verify=bundle or True,
            proxies=get_environ_proxies(place.url),
            timeout=(_CONNECT_S, _READ_S),
            max_pool_connections=_MOST_CONNECTIONS,
        )

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    @property
    def access_key(self) -> str:
        """The name of the key, which is no secret."""
        return str(self._credentials.get_frozen_credentials().access_key)

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Any, payload: str
    ) -> Any:
        """Send a request, signed with the keys of the store; return botocore's response, unread.

        Parameters
        ----------
        target
            Path and query, encoded as S3 signs them.
        body
            Bytes, or what yields bytes, with their number in the header Content-Length.
        payload
            The SHA-256 of the body, or `UNSIGNED-PAYLOAD`.

        Raises
        ------
        ApiError
            `ServiceUnavailable` if the store does not answer.
        """
        from botocore.awsrequest import AWSPreparedRequest, AWSRequest

        request = AWSRequest(
            method=method, url=f"{self.url}{target}", headers={**headers, "user-agent": _AGENT}
        )
        request.context["payload"] = payload
        with self.failures():
            frozen = self._credentials.get_frozen_credentials()
            _signer()(frozen, "s3", self.region).add_auth(request)
            found = AWSPreparedRequest(
                method, request.url, dict(request.headers.items()), body, stream_output=True
            )
            if body is not None and not isinstance(body, bytes):
                # a store that refuses says so before the body is sent; botocore looks for bytes
                found.headers["Expect"] = b"100-continue"
            return self._http.send(found)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what botocore raises into errors in the words of S3."""
        try:
            yield
        except botocore_exceptions.ClientError as error:
            raise self.refusal(error.response) from error
        except botocore_exceptions.BotoCoreError as error:
            raise self.unreachable(error) from error

    def refusal(self, response: Mapping[str, Any]) -> ApiError:
        """Return what a refusal of the store means to who asked this server."""
        about = response.get("Error", {})
        code = str(about.get("Code") or "InternalError")
        if code in REFUSED_KEYS:
            return self.refused_keys(code)
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 500)
        # an answer to HEAD has no document
        code = {"403": "AccessDenied", "404": "NoSuchKey", "400": "InvalidRequest"}.get(code, code)
        kind = StoreAwayError if status >= 500 else ApiError
        return kind(code, str(about.get("Message") or code), status=status)

    def refused_keys(self, code: str) -> ApiError:
        """Return what a client is told when the store does not take the keys of this server."""
        _log.error("The S3 store at %s refuses the keys of this server: %s", self.url, code)
        return StoreAwayError(
            "ServiceUnavailable",
            f"The S3 store at {self.url} refuses the keys of this server ({code}).",
        )

    def unreachable(self, error: BaseException) -> ApiError:
        """Return what a client is told when the store does not answer."""
        _log.warning("The S3 store at %s does not answer: %s", self.url, type(error).__name__)
        return StoreAwayError(
            "ServiceUnavailable",
            f"The S3 store at {self.url} does not answer ({type(error).__name__}). Please try again.",
        )

    def check(self) -> None:
        """Ask the store for its buckets, so that wrong keys are found at once.

        A store that does not answer now may do so later: that is only told.

        Raises
        ------
        BackendError
            If it refuses the keys.
        """
        try:
            self.client.list_buckets()
        except botocore_exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in REFUSED_KEYS:
                raise BackendError(
                    f"The S3 store at {self.url} refuses the keys ({code}).",
                    hint=f"{_KEYS_HINT} A store with a region of its own needs LOOPWRIGHT_S3_REGION.",
                    retryable=False,
                ) from error
            # keys of one bucket need not list all
            _log.info("The S3 store at %s answers; it does not list buckets: %s", self.url, code)
        except botocore_exceptions.BotoCoreError as error:
            _log.warning(
                "The S3 store at %s does not answer now (%s); until it does, S3 answers 503.",
                self.url,
                type(error).__name__,
            )


def _no_keys(message: str) -> InvalidInputError:
    return InvalidInputError(message, hint=_KEYS_HINT, field="s3")


def _config() -> Any:
    from botocore.config import Config

    return Config(
        # with a digest of the body in each signature, any store compares what it gets
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        signature_version="s3v4",
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        max_pool_connections=_MOST_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        # older stores do not know the checksums that are usual now
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@cache
def _signer() -> Any:
    from botocore.auth import S3SigV4Auth

    class Signer(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
        """Signs for what is said of a body that is not there yet."""

        def payload(self, request: Any) -> str:
            return str(request.context["payload"])

    return Signer
