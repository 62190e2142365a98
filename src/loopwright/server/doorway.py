"""One port for both: what is signed for AWS goes to the compatible API, the rest to the server's own pages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from loopwright.deploy.message import Request as OwnRequest
from loopwright.deploy.message import Response
from loopwright.sagemaker.message import Answer, Request
from loopwright.server.site import ServerSite

if TYPE_CHECKING:
    import socket

    from loopwright.loop.workspace import Workspace
    from loopwright.sagemaker.serve import Gateway, GatewayPlan

_SIGNED_QUERY = frozenset({"X-Amz-Signature", "X-Amz-Algorithm", "AWSAccessKeyId", "Signature"})
_FRAMING = ("content-length", "connection")


def has_compatible_api() -> bool:
    """Return whether what the compatible API needs is installed (`loopwright[aws]`)."""
    return find_spec("botocore") is not None


def open_gateway(
    workspace: Workspace, plan: GatewayPlan, *, listener: socket.socket, site: ServerSite
) -> Gateway:
    """Return the compatible API on a port that it shares with the server's own pages."""
    from loopwright.sagemaker.serve import Gateway

    return Gateway(workspace, plan, listener=listener, beside=beside(site))


def is_for_aws(request: Request) -> bool:
    """Return whether a request comes from a client of AWS: it is signed, or bears their headers."""
    if request.headers.get("authorization", "").startswith("AWS"):
        return True
    if any(name.startswith(("x-amz-", "amz-sdk-")) for name in request.headers):
        return True
    names = (unquote_plus(each.partition("=")[0]) for each in request.raw_query.split("&"))
    return any(name in _SIGNED_QUERY for name in names)


def beside(site: ServerSite) -> Callable[[Request], Answer | None]:
    """Return what answers the requests that are not for AWS; None for those that are."""

    def answer(request: Request) -> Answer | None:
        if is_for_aws(request):
            return None
        own = OwnRequest(
            method=request.method.encode(),
            target=request.target.encode("latin-1"),
            headers={k.encode("latin-1"): v.encode("latin-1") for k, v in request.headers.items()},
        )
        found = site.answer(own)
        # no page of the server's own waits for anything
        assert isinstance(found, Response)  # noqa: S101
        return _of_own(found, date_line=site.date_line)

    return answer


def _of_own(response: Response, *, date_line: bytes) -> Answer:
    head, _, body = response.to_bytes(closes=False, has_body=True, date_line=date_line).partition(
        b"\r\n\r\n"
    )
    pairs = [line.decode("latin-1").partition(": ") for line in head.split(b"\r\n")[1:]]
    headers = [(name, value) for name, _, value in pairs if name not in _FRAMING]
    return Answer(status=response.status, headers=headers, body=body)
