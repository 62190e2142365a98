"""Whether a request was signed with the secret of a key we gave out, by botocore's own rules."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from loopwright.sagemaker.canonical import ALGORITHM, wanted_signature
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Request

EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()
_SKEW = timedelta(minutes=5)
_S3_SKEW = timedelta(minutes=15)
_LONGEST_COUNT = 12
_LONGEST_PRESIGNED_S = 604_800
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y%m%dT%H%M%SZ"
_FORM = re.compile(rf"{ALGORITHM}\s+(.*)")
_USUAL = re.compile(
    rf"{ALGORITHM} Credential=([^,\s]+), SignedHeaders=([^,\s]+), Signature=([0-9a-f]{{64}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a signature says of a request, once it has been checked.

    Parameters
    ----------
    access_key
        Whose it is.
    region, service
        What it was signed for; of an old signature in the query, an empty region and `s3`.
    payload
        What the client says of the body: its SHA-256, `UNSIGNED-PAYLOAD` or a way to stream it;
        None where it says nothing.
    """

    access_key: str
    region: str
    service: str
    payload: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    access_key: str
    date: str
    region: str
    service: str
    names: tuple[str, ...]
    signature: str
    timestamp: str
    payload: str | None
    is_in_query: bool


def claimed_service(request: Request) -> str:
    """Return the service for which a request says it was signed, or an empty text."""
    text = request.headers.get("authorization") or request.query.get("X-Amz-Credential", "")
    found = re.search(r"\d{8}/[^/,\s]*/([a-z0-9-]+)/aws4_request", text)
    if found:
        return found[1]
    return "s3" if "AWSAccessKeyId" in request.query else ""


def checked_signature(
    request: Request, secret_of: Callable[[str], str | None], *, now: datetime
) -> Signed:
    """Return what a signature says, if it is right.

    Parameters
    ----------
    request
        The request; the body of JSON and form requests is read, that of S3 is not.
    secret_of
        The secret of an access key; None for one that is not known.
    now
        The time.

    Raises
    ------
    ApiError
        In the words of the service, if it is missing, unknown, wrong, or not of this time.
    """
    if "AWSAccessKeyId" in request.query and "Signature" in request.query:
        return _checked_old(request, secret_of, now=now)
    claim = _claim(request)
    secret = secret_of(claim.access_key)
    if secret is None:
        raise _unknown_key(claim)
    _check_time(request, claim, now)
    payload = claim.payload
    # but for objects of S3, a digest that is only claimed would say nothing of the body
    if payload is None or claim.service != "s3":
        payload = hashlib.sha256(request.body.read(16 << 20)).hexdigest()
    wanted = wanted_signature(
        request,
        secret=secret,
        names=claim.names,
        scope=(claim.region, claim.service),
        timestamp=claim.timestamp,
        payload=payload,
    )
    if not hmac.compare_digest(wanted, claim.signature):
        raise _wrong(claim.service)
    return Signed(
        access_key=claim.access_key,
        region=claim.region,
        service=claim.service,
        payload=claim.payload,
    )


def _claim(request: Request) -> _Claim:
    header = request.headers.get("authorization")
    query = request.query
    is_in_query = header is None
    if header is not None:
        credential, names, signature = _parts_of(request, header)
        timestamp = request.headers.get("x-amz-date") or request.headers.get("date", "")
        payload = request.headers.get("x-amz-content-sha256")
    elif "X-Amz-Signature" in query:
        if query.get("X-Amz-Algorithm") != ALGORITHM:
            raise _incomplete(request, "X-Amz-Algorithm")
        credential, names = query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", "")
        signature, timestamp = query["X-Amz-Signature"], query.get("X-Amz-Date", "")
        payload = "UNSIGNED-PAYLOAD"
    else:
        raise _missing(request)
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request" or not names or not signature:
        raise _incomplete(request, header or "the query")
    key, date, region, service, _ = scope
    if payload is not None and service != "s3" and not _HEX.fullmatch(payload):
        payload = None
    if is_in_query and service != "s3":
        payload = None
    listed = tuple(names.lower().split(";"))
    claim = _Claim(
        access_key=key,
        date=date,
        region=region,
        service=service,
        names=listed,
        signature=signature,
        timestamp=timestamp,
        payload=payload,
        is_in_query=is_in_query,
    )
    _check_names(request, claim)
    return claim


def _parts_of(request: Request, header: str) -> tuple[str, str, str]:
    """Return the credential, the names of the signed headers, and the signature."""
    usual = _USUAL.fullmatch(header)
    if usual is not None:
        return usual[1], usual[2], usual[3]
    form = _FORM.fullmatch(header.strip())
    if form is None:
        raise _incomplete(request, header)
    parts = dict(
        each.strip().partition("=")[::2] for each in re.split(r",\s*", form[1]) if "=" in each
    )
    return parts.get("Credential", ""), parts.get("SignedHeaders", ""), parts.get("Signature", "")


def _check_names(request: Request, claim: _Claim) -> None:
    """Refuse a request with headers that change its meaning and were not signed."""
    unsigned = [
        name
        for name in request.headers
        if (name.startswith("x-amz-") or name == "host") and name not in claim.names
    ]
    # what tells of the way rather than of the request
    unsigned = [name for name in unsigned if name not in ("x-amz-content-sha256",)]
    if not unsigned:
        return
    message = "There were headers present in the request which were not signed"
    if claim.service == "s3":
        raise ApiError("AccessDenied", message, HeadersNotSigned=", ".join(unsigned))
    raise ApiError(_code(claim.service), f"{message}: {', '.join(unsigned)}", status=403)


def _check_time(request: Request, claim: _Claim, now: datetime) -> None:
    at = _time_of(claim.timestamp)
    if at is None:
        raise _incomplete(request, f"the date {claim.timestamp[:40]!r}")
    if not claim.timestamp.startswith(claim.date):
        raise _wrong(claim.service)
    if claim.is_in_query:
        _check_expiry(request, at, now)
        return
    is_s3 = claim.service == "s3"
    skew = _S3_SKEW if is_s3 else _SKEW
    if abs(now - at) <= skew:
        return
    if is_s3:
        raise ApiError(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            RequestTime=claim.timestamp,
            ServerTime=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            MaxAllowedSkewMilliseconds=int(skew.total_seconds() * 1000),
        )
    present, minutes = now.strftime(_TIME), f"{int(skew.total_seconds() // 60)} min."
    if at < now:
        limit = (now - skew).strftime(_TIME)
        text = f"expired: {claim.timestamp} is now earlier than {limit} ({present} - {minutes})"
    else:
        limit = (now + skew).strftime(_TIME)
        text = f"not yet current: {claim.timestamp} is still later than {limit} ({present} + {minutes})"
    raise ApiError(_code(claim.service), f"Signature {text}", status=403)


# many requests are signed in one second
@lru_cache(maxsize=256)
def _time_of(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _check_expiry(request: Request, at: datetime, now: datetime) -> None:
    text = request.query.get("X-Amz-Expires", "")
    if not _is_count(text) or not 1 <= int(text) <= _LONGEST_PRESIGNED_S:
        raise ApiError(
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be between 1 and 604800 seconds",
        )
    if now > at + timedelta(seconds=int(text)):
        raise _expired()
    if at - now > _S3_SKEW:
        raise ApiError("AccessDenied", "Request is not valid yet")


def _checked_old(
    request: Request, secret_of: Callable[[str], str | None], *, now: datetime
) -> Signed:
    """Check the old signature in the query, with which boto3 signs S3 addresses in us-east-1."""
    from botocore.auth import HmacV1QueryAuth
    from botocore.compat import HTTPHeaders
    from botocore.credentials import Credentials

    query = request.query
    key = query["AWSAccessKeyId"]
    secret = secret_of(key)
    if secret is None:
        raise ApiError(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            AWSAccessKeyId=key,
        )
    expires = query.get("Expires", "")
    if not _is_count(expires):
        raise ApiError("AccessDenied", "Invalid date (should be seconds since epoch)")
    if now.timestamp() > int(expires):
        raise _expired()
    own = ("AWSAccessKeyId=", "Signature=", "Expires=")
    kept = "&".join(each for each in request.raw_query.split("&") if not each.startswith(own))
    headers = HTTPHeaders()
    for name, value in {**request.headers, **query}.items():
        if request.headers.get(name, value) != value:
            # what is in the query is signed, and what is in the header would be done
            raise _wrong("s3")
        if name in ("content-md5", "content-type") or name.startswith("x-amz-"):
            headers[name] = value

    class Signer(HmacV1QueryAuth):  # type: ignore[misc] # botocore has no types
        def _get_date(self) -> str:
            return expires

    split = urlsplit(f"http://{request.headers.get('host', '')}{request.raw_path}?{kept}")
    wanted = Signer(Credentials(key, secret)).get_signature(request.method, split, headers)
    if not hmac.compare_digest(wanted, query["Signature"].replace(" ", "+")):
        raise _wrong("s3")
    return Signed(access_key=key, region="", service="s3", payload="UNSIGNED-PAYLOAD")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT


def _expired() -> ApiError:
    return ApiError("AccessDenied", "Request has expired")


def _code(service: str) -> str:
    return (
        "SignatureDoesNotMatch" if service in ("s3", "sts", "iam") else "InvalidSignatureException"
    )


def _wrong(service: str) -> ApiError:
    text = (
        "The request signature we calculated does not match the signature you provided. Check your "
    )
    if service == "s3":
        return ApiError("SignatureDoesNotMatch", f"{text}key and signing method.")
    return ApiError(
        _code(service),
        f"{text}AWS Secret Access Key and signing method. "
        "Consult the service documentation for details.",
        status=403,
    )


def _unknown_key(claim: _Claim) -> ApiError:
    if claim.service == "s3":
        return ApiError(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            AWSAccessKeyId=claim.access_key[:128],
        )
    code = (
        "InvalidClientTokenId" if claim.service in ("sts", "iam") else "UnrecognizedClientException"
    )
    return ApiError(code, "The security token included in the request is invalid.")


def _missing(request: Request) -> ApiError:
    if "x-amz-target" in request.headers:
        return ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    if request.method == "POST" and request.raw_path == "/":
        return ApiError("MissingAuthenticationToken", "Request is missing Authentication Token")
    return ApiError("AccessDenied", "Access Denied")


def _incomplete(request: Request, found: str) -> ApiError:
    if "x-amz-target" in request.headers:
        return ApiError(
            "IncompleteSignatureException",
            f"The signature of this request is not complete: {found[:200]}",
        )
    return ApiError(
        "AuthorizationHeaderMalformed",
        f"The authorization of this request is malformed: {found[:100]}",
    )
