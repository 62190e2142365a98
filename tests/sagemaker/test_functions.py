"""Functions as AWS Lambda has them, through boto3: real Python code in processes of its own."""

from __future__ import annotations

import base64
import io
import json
import stat
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.function.archive import unpack

from .conftest import ROLE, Server

_ECHO = "def handler(event, context):\n    return {'said': event}\n"


def packed(files: Mapping[str, str | zipfile.ZipInfo]) -> bytes:
    """Return a zip of some files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, str) else "")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def functions(server: Server) -> Any:
    """Return a client of Lambda."""
    return server.client("lambda")


@pytest.fixture
def create(functions: Any) -> Callable[..., str]:
    """Return a function that creates a function and returns its name."""

    def new(code: str = _ECHO, **changes: Any) -> str:
        name = f"f-{time.time_ns()}"
        wanted = {
            "FunctionName": name,
            "Runtime": "python3.12",
            "Handler": "app.handler",
            "Role": ROLE,
            "Code": {"ZipFile": packed({"app.py": code})},
            **changes,
        }
        functions.create_function(**wanted)
        return name

    return new


def called(functions: Any, name: str, event: Any = None, **more: Any) -> tuple[Any, str]:
    """Return what a function answered, and how it failed if it did."""
    payload = {} if event is None else {"Payload": json.dumps(event).encode()}
    said = functions.invoke(FunctionName=name, **payload, **more)
    return json.loads(said["Payload"].read()), said.get("FunctionError", "")


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    error = response["Error"]
    return error["Code"], response["ResponseMetadata"]["HTTPStatusCode"], error["Message"]


def test_a_function_is_called_with_its_environment_and_tells_its_lines(
    functions: Any, server: Server, create: Callable[..., str]
) -> None:
    code = """
import logging, os
from part.inner import TWICE
logging.getLogger().setLevel("INFO")
def handler(event, context):
    print("hello from the handler")
    logging.info("logged")
    left = context.get_remaining_time_in_millis()
    return {
        "n": event["n"] * TWICE, "mode": os.environ["MODE"], "left": 0 < left <= 20000,
        "name": context.function_name, "memory": context.memory_limit_in_mb,
        "url": os.environ["AWS_ENDPOINT_URL"], "arn": context.invoked_function_arn,
    }
"""
    files = {"app.py": code, "part/__init__.py": "", "part/inner.py": "TWICE = 2\n"}
    name = create(
        Code={"ZipFile": packed(files)},
        Timeout=20,
        MemorySize=256,
        Environment={"Variables": {"MODE": "test"}},
    )

    said = functions.invoke(FunctionName=name, Payload=b'{"n": 21}', LogType="Tail")

    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    assert json.loads(said["Payload"].read()) == {
        "n": 42,
        "mode": "test",
        "left": True,
        "name": name,
        "memory": "256",
        "url": server.url,
        "arn": arn,
    }
    assert (said["StatusCode"], said["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in said
    lines = base64.b64decode(said["LogResult"]).decode()
    assert "hello from the handler\n" in lines
    assert "[INFO]\t" in lines
    assert "\tMemory Size: 256 MB\t" in lines
    logs = server.client("logs")
    group = f"/aws/lambda/{name}"
    stream = logs.describe_log_streams(logGroupName=group)["logStreams"][0]["logStreamName"]
    assert "/[$LATEST]" in stream
    events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
    told = [each["message"] for each in events["events"]]
    assert told[0].startswith("START RequestId: ")
    assert "hello from the handler" in told


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("def handler(e, c):\n    raise ValueError('boom')\n", "ValueError", "boom"),
        (
            "import nowhere_at_all\n",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nowhere_at_all'",
        ),
        ("x = 1\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        (
            "def handler(e, c):\n    return object()\n",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type object is not JSON serializable",
        ),
    ],
)
def test_what_a_handler_does_wrong_is_told_as_lambda_tells_it(
    functions: Any, create: Callable[..., str], code: str, kind: str, message: str
) -> None:
    payload, failed = called(functions, create(code))

    assert failed == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == (kind, message)
    if kind == "ValueError":
        assert payload["stackTrace"] == [
            "  File \"/opt/ml/code/app.py\", line 2, in handler\n    raise ValueError('boom')\n"
        ]


def test_a_call_that_takes_too_long_or_ends_its_process_fails(
    functions: Any, create: Callable[..., str]
) -> None:
    slow = create("import time\ndef handler(e, c):\n    time.sleep(60)\n", Timeout=1)
    gone = create("import os\ndef handler(e, c):\n    os._exit(7)\n")

    began = time.monotonic()
    timed_out, ended = called(functions, slow), called(functions, gone)

    assert time.monotonic() - began < 20
    assert timed_out[1] == ended[1] == "Unhandled"
    assert timed_out[0]["errorType"] == "Sandbox.Timedout"
    assert timed_out[0]["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    assert ended[0]["errorType"] == "Runtime.ExitError"
    assert ended[0]["errorMessage"].endswith("Runtime exited with error: exit status 7")


def test_a_function_that_takes_more_memory_than_it_has_is_ended(
    functions: Any, create: Callable[..., str]
) -> None:
    code = "import time\ndef handler(e, c):\n    x = bytearray(600 << 20)\n    time.sleep(20)\n"

    payload, failed = called(functions, create(code, Timeout=30))

    assert failed == "Unhandled"
    assert payload["errorType"] == "Runtime.ExitError"
    assert "memory" in payload["errorMessage"]


def test_code_comes_from_s3_too_and_can_be_replaced(
    functions: Any, s3: Any, bucket: str, create: Callable[..., str]
) -> None:
    s3.put_object(Bucket=bucket, Key="lambda/f/code", Body=packed({"app.py": _ECHO}))
    name = create(Code={"S3Bucket": bucket, "S3Key": "lambda/f/code"})
    first = functions.get_function(FunctionName=name)["Configuration"]
    other = "def handler(e, c):\n    return 'new'\n"

    functions.update_function_code(FunctionName=name, ZipFile=packed({"app.py": other}))
    functions.update_function_configuration(FunctionName=name, Timeout=9, MemorySize=512)

    functions.get_waiter("function_updated_v2").wait(FunctionName=name)
    now = functions.get_function_configuration(FunctionName=f"{name}:$LATEST")
    assert called(functions, first["FunctionArn"]) == ("new", "")
    assert (now["Timeout"], now["MemorySize"]) == (9, 512)
    assert now["CodeSha256"] != first["CodeSha256"]
    assert now["RevisionId"] != first["RevisionId"]
    listed = functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    assert name in [each["FunctionName"] for page in listed for each in page["Functions"]]
    functions.delete_function(FunctionName=name)
    assert refused(functions.invoke, FunctionName=name) == (
        "ResourceNotFoundException",
        404,
        f"Function not found: arn:aws:lambda:us-east-1:123456789012:function:{name}",
    )


def test_other_ways_to_call_are_there(functions: Any, create: Callable[..., str]) -> None:
    name = create()

    later = functions.invoke(FunctionName=name, InvocationType="Event", Payload=b"1")
    never = functions.invoke(FunctionName=name, InvocationType="DryRun")

    assert (later["StatusCode"], never["StatusCode"]) == (202, 204)
    assert called(functions, name) == ({"said": {}}, "")
    assert called(functions, name, [1, "\u00e9"]) == ({"said": [1, "\u00e9"]}, "")
    assert refused(functions.invoke, FunctionName=name, Payload=b"{no")[:2] == (
        "InvalidRequestContentException",
        400,
    )
    assert refused(functions.invoke, FunctionName=name, Payload=b'"' + b"x" * (7 << 20) + b'"')[
        :2
    ] == ("RequestTooLargeException", 413)


def _link() -> bytes:
    entry = zipfile.ZipInfo("app.py")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def _bomb() -> bytes:
    """Return a zip whose list of files says that its one file has a GiB."""
    data = bytearray(packed({"app.py": "x"}))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nothing", "Could not unzip uploaded file. Please check your file, then try to upload"),
        (packed({"../app.py": ""}), "The zip cannot be used: '../app.py' leads out of its folder."),
        (packed({"/app.py": ""}), "The zip cannot be used: '/app.py' leads out of its folder."),
        (_link(), "The zip cannot be used: 'app.py' is neither a file nor a folder."),
        (_bomb(), "Unzipped size must be smaller than 262144000 bytes"),
        (packed({}), "Uploaded file must be a non-empty zip"),
    ],
    ids=["no zip", "above", "absolute", "link", "bomb", "empty"],
)
def test_a_hostile_zip_is_refused(
    functions: Any, create: Callable[..., str], data: bytes, message: str
) -> None:
    code, status, said = refused(create, Code={"ZipFile": data})

    assert (code, status) == ("InvalidParameterValueException", 400)
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Runtime": "nodejs20.x"}, "The runtime nodejs20.x is not supported yet by loopwright"),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:x:1"]},
            "Layers are not supported yet",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            "Lambda was unable to configure your environment variables because",
        ),
        (
            {"Code": {"S3Bucket": "jobs", "S3Key": "no/such"}},
            "Error occurred while GetObject. S3 Error Code: NoSuchKey.",
        ),
    ],
)
def test_what_a_function_cannot_have_is_refused(
    create: Callable[..., str], bucket: str, changes: dict[str, Any], message: str
) -> None:
    code, _, said = refused(create, **changes)

    assert code == "InvalidParameterValueException"
    assert said.startswith(message)


def test_a_zip_that_holds_more_than_it_says_writes_no_more(tmp_path: Path) -> None:
    data = bytearray(packed({"app.py": "x" * 100_000}))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(mark) + place
        data[at : at + 4] = (10).to_bytes(4, "little")
    path, folder = tmp_path / "code.zip", tmp_path / "code"
    path.write_bytes(data)
    folder.mkdir()

    with pytest.raises(InvalidInputError, match="damaged"):
        unpack(path, folder)

    assert sum(each.stat().st_size for each in folder.rglob("*")) <= 10


@given(names=st.lists(st.text("./a\\\u00e9-", min_size=1, max_size=12), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_whatever_its_entries_are_called_nothing_lands_outside(names: list[str]) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
    with TemporaryDirectory() as place:
        root = Path(place)
        (root / "inner").mkdir()
        (root / "code.zip").write_bytes(buffer.getvalue())

        with suppress(InvalidInputError):
            unpack(root / "code.zip", root / "inner")

        assert sorted(each.name for each in root.iterdir()) == ["code.zip", "inner"]


def test_one_name_is_given_once(functions: Any, create: Callable[..., str]) -> None:
    name = create()

    assert refused(create, FunctionName=name) == (
        "ResourceConflictException",
        409,
        f"Function already exist: {name}",
    )
