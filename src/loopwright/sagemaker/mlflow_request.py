"""Requests of MLflow clients that name a tracking server by its ARN, passed on to it.

The plug-in `sagemaker-mlflow` signs them for a service of its own and names the server in a header.
"""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

from loopwright.deploy.address import LOOPBACK
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Answer, Request
from loopwright.sagemaker.mlflow_server import SERVERS
from loopwright.sagemaker.parsing import LARGEST_JSON

SERVICE = "sagemaker-mlflow"
_HEADER = "x-mlflow-sm-tracking-server-arn"
_PASSED = ("content-type", "accept", "user-agent")
_TIMEOUT_S = 60.0
_LARGEST_ANSWER = 64 << 20


def passed_on(desk: Desk, caller: Caller, request: Request, request_id: str) -> Answer:
    """Return what the tracking server answers that a request names.

    Raises
    ------
    ApiError
        If it names none, or one that does not run.
    """
    body = request.body.read(LARGEST_JSON)
    arn = request.headers.get(_HEADER, "")
    record = SERVERS.get(desk, caller, arn.rpartition("/")[2] or "-")
    if record.body["arn"] != arn:
        raise ApiError("ResourceNotFound", SERVERS.missing.format(arn=arn))
    headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
    connection = HTTPConnection(LOOPBACK, record.body["port"], timeout=_TIMEOUT_S)
    try:
        connection.request(request.method, request.target, body=body or None, headers=headers)
        answer = connection.getresponse()
        data = answer.read(_LARGEST_ANSWER)
    except (OSError, HTTPException) as error:
        raise ApiError(
            "ServiceUnavailable",
            f"The tracking server {record.body['name']} is {record.body['status']} and does not "
            f"answer: {error}",
        ) from error
    finally:
        connection.close()
    kind = answer.headers.get("content-type", "application/json")
    return Answer(
        status=answer.status,
        headers=[("content-type", kind), ("x-amzn-RequestId", request_id)],
        body=data,
    )
