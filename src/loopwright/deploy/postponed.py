"""`/async-invocations`: take a request in, answer it when there is time, hand the answer out later."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import AlreadyExistsError, BackendError, InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.invocation import given_id
from loopwright.deploy.invocation_queue import Claimed, FullQueueError, InvocationQueue, postponed
from loopwright.deploy.message import Request, Response, error_response

if TYPE_CHECKING:
    from loopwright.deploy.service import Service

_log = logging.getLogger(__name__)

PATH = b"/async-invocations"
# what decides how a body is read and answered
_HEADERS = (b"content-type", b"accept", b"x-amzn-sagemaker-custom-attributes")
_MODEL_HEADERS = (b"x-amzn-sagemaker-target-variant", b"x-amzn-sagemaker-session-id")
_ID_HEADER = b"x-inference-id"
_RETRY_LATER = b"retry-after: 1\r\n"


class PostponedWork:
    """Answers what waits in a queue, one request after the other, between those that are waited for.

    Runs on the event loop's thread; the queue's files are read and written in others.
    """

    def __init__(self, queue: InvocationQueue) -> None:
        self.queue = queue
        self._is_working = False

    def advance(self, service: Service) -> None:
        """Begin with the next request, unless one is being worked on or the endpoint is leaving.

        Call it about once a second, and when a request has come.
        """
        if self._is_working or service.is_draining or service.served is None:
            return
        # a thread that would find nothing is not counted among the requests that wait
        if not service.queue.has_room() or self.queue.is_empty():
            return
        self._is_working = True
        service.queue.submit(
            self._one(service),
            done=lambda outcome: self._done(service, outcome),
            is_wanted=lambda: True,
        )

    def _done(self, service: Service, outcome: Response | BaseException) -> None:
        self._is_working = False
        if isinstance(outcome, Response):
            if outcome.status != 204:
                self.advance(service)
        else:
            # the next second tries again
            _log.error("A postponed request could not be answered.", exc_info=outcome)

    def _one(self, service: Service) -> Steps[Response]:
        """Answer one request; 204 when there is none, or it has to wait."""
        claimed: Claimed | None = yield self.queue.claim
        if claimed is None:
            return Response(204)
        is_kept = False
        try:
            response = yield from self._answer(service, claimed)
            if response.status == 503 and claimed.n_tries < self.queue.limits.max_tries:
                return Response(204)
            is_kept = True
            yield lambda: self.queue.finish(claimed, response)
            service.metrics.count_request("postponed", response.status, None)
            return response
        finally:
            if not is_kept:
                self.queue.release(claimed)

    def _answer(self, service: Service, claimed: Claimed) -> Steps[Response]:
        head = claimed.head
        headers = {name.encode(): value.encode("latin-1") for name, value in head.headers.items()}
        headers[_ID_HEADER] = head.inference_id.encode()
        target = b"/invocations" + (b"?" + head.query.encode("latin-1") if head.query else b"")
        request = Request(method=b"POST", target=target, headers=headers, body=claimed.body)
        request.route = "/invocations"
        try:
            from loopwright.deploy.service import invoked

            return (yield from invoked(service, request))
        except Exception as error:
            return service.failed(request, error)


def take(service: Service, request: Request) -> Steps[Response]:
    """Keep a request for later; answer 202 with the place where its answer will be."""
    work = service.postponed
    if work is None:
        return error_response(404, "This endpoint keeps no requests for later.")
    try:
        given = given_id(request)
        head = postponed(
            inference_id=given or new_id(),
            is_given=given is not None,
            headers={
                name.decode(): request.headers[name].decode("latin-1")
                for name in (*_HEADERS, *_MODEL_HEADERS)
                if name in request.headers
            },
            query=request.target.partition(b"?")[2].decode("latin-1"),
            body=request.body,
        )
        yield lambda: work.queue.put(head, request.body)
    except AlreadyExistsError as error:
        return error_response(409, error.message, hint=error.hint, **error.facts)
    except FullQueueError as error:
        return error_response(429, error.message, headers=_RETRY_LATER, hint=error.hint)
    except BackendError as error:
        return error_response(503, error.message, headers=_RETRY_LATER, hint=error.hint)
    work.advance(service)
    place = f"{PATH.decode()}/{head.id}"
    body = {"id": head.id, "inference_id": head.inference_id, "location": place}
    line = f"location: {place}\r\n".encode()
    return Response(202, msgspec.json.encode(body), headers=line)


def look(service: Service, request: Request) -> Steps[Response]:
    """Hand out an answer; 202 while it is not there, 404 for what is not known."""
    work = service.postponed
    request_id = request.path.removeprefix(PATH + b"/").decode("latin-1")
    found = None
    if work is not None:
        try:
            found = yield lambda: work.queue.find(request_id)
        except InvalidInputError as error:
            return error_response(500, error.message)
    if found is None:
        return error_response(
            404, f"No request has the id {request_id[:80]!r}, or it is forgotten."
        )
    if found == "waiting":
        body = msgspec.json.encode({"id": request_id, "status": "waiting"})
        return Response(202, body, headers=_RETRY_LATER)
    answer: Response = found
    return answer
