"""Functions, as AWS Lambda keeps them: created, changed, described, listed, deleted."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.function.archive import LARGEST, check_archive
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import Shelf, cut
from loopwright.store import Record

LATEST = "$LATEST"
_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:"
    r"|(?P<other>\d{12}):function:)?(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<version>[^:]+))?"
)
_DEFAULTS: Mapping[str, Any] = {"Timeout": 3, "MemorySize": 128, "Description": ""}
_SETTINGS = (
    "Role",
    "Handler",
    "Runtime",
    "Description",
    "Timeout",
    "MemorySize",
    "VpcConfig",
    "Environment",
    "EphemeralStorage",
    "TracingConfig",
    "Architectures",
)
_LONGEST_S = 900
_RESERVED = re.compile(
    r"_HANDLER|_X_AMZN_TRACE_ID|AWS_(REGION|DEFAULT_REGION|EXECUTION_ENV|LAMBDA_.*|ACCESS_KEY.*"
    r"|SECRET_ACCESS_KEY|SESSION_TOKEN|ENDPOINT_URL)|LAMBDA_.*"
)
_MOST_VARIABLE_BYTES = 4096


class _Functions(Shelf):
    """The shelf of functions, whose ARNs are those of another service."""

    def arn(self, caller: Caller, name: str) -> str:
        """Return the ARN of a name."""
        return f"arn:aws:lambda:{caller.region}:{caller.account}:function:{name}"


FUNCTIONS = _Functions(
    kind="function",
    missing="Function not found: {arn}",
    missing_code="ResourceNotFoundException",
    taken="Function already exist: {name}",
    taken_code="ResourceConflictException",
)


def invalid(message: str) -> ApiError:
    """Return the error that Lambda answers most refusals with."""
    return ApiError("InvalidParameterValueException", message)


def get_function(desk: Desk, caller: Caller, text: str, qualifier: str | None = None) -> Record:
    """Return the record of a function by its name or ARN.

    Raises
    ------
    ApiError
        If there is none, or another version than the latest is asked for.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise invalid(f"{text[:200]!r} is no name of a function.")
    name, version = match["name"], match["version"] or qualifier or LATEST
    account = match["account"] or match["other"] or caller.account
    region = match["region"] or caller.region
    record = None
    if (account, region, version) == (caller.account, caller.region, LATEST):
        record = FUNCTIONS.find(desk, caller, name)
    if record is None:
        end = "" if version == LATEST else f":{version}"
        arn = f"arn:aws:lambda:{region}:{account}:function:{name}{end}"
        missing = FUNCTIONS.missing.format(arn=arn)
        raise ApiError(FUNCTIONS.missing_code, missing, status=404)
    return record


def _code(desk: Desk, given: Mapping[str, Any]) -> bytes:
    """Return the zip of a request, checked."""
    if given.get("ImageUri"):
        raise invalid("Functions of container images are not supported yet by loopwright.")
    data = given.get("ZipFile")
    if data is None and given.get("S3Bucket") and given.get("S3Key"):
        try:
            data = desk.objects.read(given["S3Bucket"], given["S3Key"], limit=LARGEST)
        except ApiError as error:
            raise invalid(
                f"Error occurred while GetObject. S3 Error Code: {error.code}. "
                f"S3 Error Message: {error.message}"
            ) from error
    if data is None:
        raise invalid("Please provide a source for function code.")
    try:
        check_archive(data)
    except InvalidInputError as error:
        raise invalid(str(error)) from error
    return bytes(data)


def _check(given: Mapping[str, Any]) -> None:
    """Refuse settings that cannot be had here."""
    runtime = given.get("Runtime")
    if runtime is not None and not re.fullmatch(r"python3(\.\d+)?", runtime):
        raise invalid(
            f"The runtime {runtime} is not supported yet by loopwright: functions are Python."
        )
    if given.get("Layers"):
        raise invalid("Layers are not supported yet by loopwright: put the packages into the zip.")
    if given.get("Timeout", 1) > _LONGEST_S:
        raise invalid(f"Timeout must be {_LONGEST_S} seconds at most.")
    variables = (given.get("Environment") or {}).get("Variables", {})
    reserved = sorted(name for name in variables if _RESERVED.fullmatch(name))
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided contains reserved keys that are currently not supported "
            f"for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    n_bytes = sum(len(name) + len(value) for name, value in variables.items())
    if n_bytes > _MOST_VARIABLE_BYTES:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided exceeded the 4KB limit."
        )


@serves(
    "lambda",
    "CreateFunction",
    note="Python, from a zip of 64 MiB at most; it runs with loopwright's own Python, whatever "
    "`Runtime` says. Images and layers are refused; networks are kept and not applied.",
)
def create_function(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a function."""
    match = _NAME.fullmatch(given["FunctionName"])
    if match is None:
        raise invalid(f"{given['FunctionName'][:200]!r} is no name of a function.")
    name = match["name"]
    _check(given)
    if given.get("PackageType", "Zip") == "Zip" and not (
        given.get("Runtime") and given.get("Handler")
    ):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment "
            "packages."
        )
    if FUNCTIONS.find(desk, caller, name) is not None:
        raise ApiError("ResourceConflictException", FUNCTIONS.taken.format(name=name), status=409)
    data = _code(desk, given["Code"])
    request = {each: given[each] for each in (*_SETTINGS, "Tags") if each in given}
    record = FUNCTIONS.create(
        desk, caller, name, {**_DEFAULTS, **request}, **_kept(desk, data), revision=str(uuid4())
    )
    return configuration(record)


def _kept(desk: Desk, data: bytes) -> dict[str, Any]:
    """Return what a record says of code that has been put away."""
    sha = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"code": desk.workspace.artifacts.put_bytes(data), "sha": sha, "size": len(data)}


def configuration(record: Record) -> dict[str, Any]:
    """Return a function as Lambda describes it."""
    body, request = record.body, record.body["request"]
    at = datetime.fromisoformat(body["modified_at"])
    found = {
        "FunctionName": body["name"],
        "FunctionArn": body["arn"],
        "CodeSize": body["size"],
        "CodeSha256": body["sha"],
        "LastModified": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000",
        "Version": LATEST,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": body["revision"],
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": log_group(body["name"])},
    }
    return found | {name: request[name] for name in _SETTINGS if request.get(name)}


def log_group(name: str) -> str:
    """Return the group that the lines of a function are found in."""
    return f"/aws/lambda/{name}"


def _changed(desk: Desk, caller: Caller, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    with desk.workspace.metadata.transaction():
        record = get_function(desk, caller, given["FunctionName"])
        wanted = given.get("RevisionId")
        if wanted not in (None, record.body["revision"]):
            raise ApiError(
                "PreconditionFailedException",
                "The RevisionId provided does not match the latest Lambda function version.",
                status=412,
            )
        if given.get("DryRun"):
            return configuration(record)
        own = {name: given[name] for name in _SETTINGS if name in given}
        request = {**record.body["request"], **own}
        changes = {"request": request, "revision": str(uuid4()), **more}
        return configuration(FUNCTIONS.change(desk, record, **changes))


@serves("lambda", "UpdateFunctionCode", note="No version is published.")
def update_code(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the code of a function; calls that run go on with what they began with."""
    get_function(desk, caller, given["FunctionName"])
    data = _code(desk, given)
    return _changed(desk, caller, given, **({} if given.get("DryRun") else _kept(desk, data)))


@serves("lambda", "UpdateFunctionConfiguration")
def update_configuration(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the settings of a function."""
    _check(given)
    return _changed(desk, caller, given)


@serves("lambda", "GetFunction", note="Tells of no place from which the code can be had.")
def get_described(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Describe a function."""
    record = get_function(desk, caller, given["FunctionName"], given.get("Qualifier"))
    return {
        "Configuration": configuration(record),
        "Code": {"RepositoryType": "S3"},
        "Tags": record.body["request"].get("Tags") or None,
    }


@serves("lambda", "GetFunctionConfiguration")
def get_configuration(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a function."""
    return configuration(get_function(desk, caller, given["FunctionName"], given.get("Qualifier")))


@serves("lambda", "ListFunctions")
def list_functions(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List functions."""
    rows = [configuration(each) for each in FUNCTIONS.all(desk, caller)]
    asked = {"MaxResults": min(50, given.get("MaxItems", 50)), "NextToken": given.get("Marker")}
    page, token = cut(rows, asked)
    return {"Functions": page, "NextMarker": token}


@serves("lambda", "DeleteFunction")
def delete_function(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a function; the lines of its calls stay."""
    record = get_function(desk, caller, given["FunctionName"], given.get("Qualifier"))
    FUNCTIONS.delete(desk, record)
    return {}
