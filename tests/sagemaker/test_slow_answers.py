"""The end of a large upload takes longer than clients wait for a silent server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from loopwright.sagemaker.front import Front
from loopwright.sagemaker.message import Answer, Request

DONE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUploadResult>'
    b"<ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>"
)
REFUSED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidPart</Code>'
    b"<Message>no</Message></Error>"
)


@contextmanager
def served(answer: Answer, *, seconds: float) -> Iterator[str]:
    """Serve one answer, which takes a while."""

    def handler(_request: Request) -> Answer:
        time.sleep(seconds)
        return answer

    front = Front(handler, n_threads=2)
    front.patience_s = 0.1
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(front.connection, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        server.close()
        front.threads.shutdown()
        loop.close()


def complete(url: str) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(read_timeout=0.5, retries={"total_max_attempts": 1}),
    )
    parts = [{"PartNumber": 1, "ETag": '"e"'}]
    found: str = client.complete_multipart_upload(
        Bucket="box", Key="k", UploadId="u", MultipartUpload={"Parts": parts}
    )["ETag"]
    return found


def test_a_client_is_kept_until_the_parts_are_joined() -> None:
    with served(Answer(body=DONE), seconds=1.2) as url:
        assert complete(url) == '"e-1"'


def test_a_refusal_comes_through_an_answer_that_has_begun() -> None:
    slow = served(Answer(status=400, body=REFUSED), seconds=0.3)
    with slow as url, pytest.raises(ClientError) as caught:
        complete(url)

    assert caught.value.response["Error"]["Code"] == "InvalidPart"


def test_an_answer_that_is_there_soon_has_its_own_status() -> None:
    quick = served(Answer(status=400, body=REFUSED), seconds=0.0)
    with quick as url, pytest.raises(ClientError) as caught:
        complete(url)

    assert caught.value.response["Error"]["Code"] == "InvalidPart"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
