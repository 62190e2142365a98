"""What the operations work with: the workspace, the objects of S3, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from loopwright.loop.workspace import Workspace
from loopwright.sagemaker.s3.objects import Objects

ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = "loopwright"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the access key, the account it belongs to, and the region that was signed for."""

    access_key: str
    account: str
    region: str

    def arn(self, kind: str, name: str, *, service: str = "sagemaker") -> str:
        """Return the ARN of something of the caller's."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{kind}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the operations work with.

    Parameters
    ----------
    workspace
        The home, its stores and its compute.
    objects
        The buckets: in the home, or in a store elsewhere.
    url
        Where clients on this machine reach this server.
    key
        The access key that jobs are given, with its secret.
    """

    workspace: Workspace
    objects: Objects
    url: str
    job_key: tuple[str, str] = field(repr=False)

    def now(self) -> datetime:
        """Return the time."""
        return self.workspace.clock.now()
