"""Where buckets lie that are not in the home: the address of an S3-compatible store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from loopwright.core.errors import InvalidInputError

_AMAZON = re.compile(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_HINT = (
    "Give its address alone, such as https://s3.eu-central-1.amazonaws.com or "
    "http://localhost:9000; keys come from the environment or from a profile of AWS's tools."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """A store and how its keys are found.

    Parameters
    ----------
    url
        Scheme, host and port.
    region
        The region that requests are signed for; None for that of the profile or the shell.
    profile
        The profile of AWS's tools that has the keys; None for what the shell names.
    """

    url: str
    region: str | None = None
    profile: str | None = None


def store_place(url: str, *, region: str | None = None, profile: str | None = None) -> StorePlace:
    """Return the place of a store.

    Raises
    ------
    InvalidInputError
        If the URL is more or less than the address of a server. It is not repeated, since it may
        hold a password.
    """
    try:
        split = urlsplit(url.strip())
        port = split.port
    except ValueError as error:
        raise _refused("The URL of the S3 store cannot be read.") from error
    if split.scheme not in ("http", "https") or not split.hostname:
        raise _refused(f"The URL of the S3 store has the scheme {split.scheme[:20]!r}.")
    if split.username is not None or split.password is not None:
        raise _refused("The URL of the S3 store holds a name or a password.")
    if split.path not in ("", "/") or split.query or split.fragment:
        raise _refused("The URL of the S3 store goes on after the host.")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", split.hostname):
        raise _refused("The host of the S3 store has characters that no host has.")
    if region is not None and not _REGION.fullmatch(region):
        raise _refused(f"{region[:64]!r} is no region.")
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    amazon = _AMAZON.fullmatch(split.hostname)
    return StorePlace(
        url=f"{split.scheme}://{host}{f':{port}' if port is not None else ''}",
        region=region or (amazon[1] if amazon else None),
        profile=profile,
    )


def _refused(message: str) -> InvalidInputError:
    return InvalidInputError(message, hint=_HINT, field="s3")
