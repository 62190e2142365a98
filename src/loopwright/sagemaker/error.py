"""What a client is told when a request cannot be carried out, in AWS's codes and statuses."""

from __future__ import annotations

from loopwright.core.errors import (
    AlreadyExistsError,
    InvalidInputError,
    LoopwrightError,
    NotFoundError,
    WrongStateError,
)

_STATUS = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "EntityAlreadyExists": 409,
    "Forbidden": 403,
    "InternalError": 500,
    "InternalFailure": 500,
    "InvalidAccessKeyId": 403,
    "InvalidClientTokenId": 403,
    "InvalidRange": 416,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "MissingAuthenticationToken": 403,
    "ModelError": 424,
    "NoSuchBucket": 404,
    "NoSuchEntity": 404,
    "NoSuchKey": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ResourceConflictException": 409,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "UnrecognizedClientException": 403,
}


class ApiError(Exception):
    """A refusal in AWS's words.

    Parameters
    ----------
    code
        AWS's name of the error, such as `ValidationException`.
    message
        AWS's sentence.
    status
        The HTTP status; that of the code when absent, and 400 for most.
    extra
        Members of the error beside its message, in the spelling of the wire.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, **extra: object
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status or _STATUS.get(code, 400)
        self.extra = extra


class StoreAwayError(ApiError):
    """A store elsewhere that does not answer now: what is not lost by it is done later."""


def validation(message: str) -> ApiError:
    """Return the error that SageMaker answers most refusals with."""
    return ApiError("ValidationException", message)


def of_loop(error: LoopwrightError) -> ApiError:
    """Return what a client is told of an error of the loop's own services."""
    if isinstance(error, NotFoundError):
        return ApiError("ResourceNotFound", str(error))
    if isinstance(error, AlreadyExistsError):
        return ApiError("ResourceInUse", str(error))
    if isinstance(error, (InvalidInputError, WrongStateError)):
        return validation(str(error))
    return ApiError("InternalFailure", str(error))
