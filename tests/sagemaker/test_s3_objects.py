"""S3 through boto3: objects, ranges, conditions, checksums, listings, uploads in parts."""

# the addresses that are opened are those of the server under test
# ruff: noqa: S310

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import re
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Server

MIB = 1 << 20


def md5(data: bytes) -> Any:
    return hashlib.md5(data, usedforsecurity=False)


@pytest.fixture(scope="module")
def box(s3: Any) -> str:
    s3.create_bucket(Bucket="box")
    return "box"


def refusal(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_an_upload_that_is_completed_again_is_answered_the_same(s3: Any, bucket: str) -> None:
    # boto3 asks again when the answer takes longer than it waits
    upload = s3.create_multipart_upload(Bucket=bucket, Key="twice")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="twice", UploadId=upload, PartNumber=1, Body=b"a")
    given = {
        "Bucket": bucket,
        "Key": "twice",
        "UploadId": upload,
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    }

    first, again = (s3.complete_multipart_upload(**given) for _ in range(2))

    assert first["ETag"] == again["ETag"]
    assert s3.get_object(Bucket=bucket, Key="twice")["Body"].read() == b"a"
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.complete_multipart_upload(**{**given, "UploadId": "none"})


def test_an_object_comes_back_as_it_was_put_with_all_that_was_said_of_it(s3: Any, box: str) -> None:
    put = s3.put_object(
        Bucket=box,
        Key="a/b.csv",
        Body=b"1,2\n",
        ContentType="text/csv",
        CacheControl="no-store",
        Metadata={"who": "ann"},
        Tagging="a=1&b=2",
    )

    got = s3.get_object(Bucket=box, Key="a/b.csv")

    assert got["Body"].read() == b"1,2\n"
    digest = md5(b"1,2\n").hexdigest()
    assert got["ETag"] == put["ETag"] == f'"{digest}"'
    assert (got["ContentType"], got["CacheControl"]) == ("text/csv", "no-store")
    assert got["Metadata"] == {"who": "ann"}
    assert s3.get_object_tagging(Bucket=box, Key="a/b.csv")["TagSet"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": "2"},
    ]
    assert s3.head_object(Bucket=box, Key="a/b.csv")["ContentLength"] == 4


@given(
    st.text(
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=60
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_key_may_be_any_text_and_never_leads_anywhere(s3: Any, box: str, key: str) -> None:
    # clients take these two away before they send the path
    if key.startswith("/") or key in (".", ".."):
        key = f"x{key}"

    s3.put_object(Bucket=box, Key=key, Body=key.encode())

    assert s3.get_object(Bucket=box, Key=key)["Body"].read() == key.encode()
    s3.delete_object(Bucket=box, Key=key)
    assert refusal(s3.get_object, Bucket=box, Key=key) == ("NoSuchKey", 404)


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "a/../../b", "..", "a//b", "a/./b", "C:\\x", "a" * 1024, "‮txt"]
)
def test_hostile_keys_are_names_and_no_paths(server: Server, s3: Any, box: str, key: str) -> None:
    s3.put_object(Bucket=box, Key=f"h/{key}"[:1024], Body=b"x")

    found = s3.list_objects_v2(Bucket=box, Prefix="h/")["Contents"]

    assert [each["Key"] for each in found] == [f"h/{key}"[:1024]]
    s3.delete_object(Bucket=box, Key=f"h/{key}"[:1024])
    outside = list(server.home.parent.rglob("passwd"))
    assert outside == []


def test_an_object_and_a_folder_may_have_one_name(s3: Any, box: str) -> None:
    for key in ("both", "both/one"):
        s3.put_object(Bucket=box, Key=key, Body=key.encode())

    assert s3.get_object(Bucket=box, Key="both")["Body"].read() == b"both"
    assert s3.get_object(Bucket=box, Key="both/one")["Body"].read() == b"both/one"


@pytest.mark.parametrize(
    ("asked", "found", "said"),
    [
        ("bytes=0-2", b"012", "bytes 0-2/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ],
)
def test_a_range_of_an_object(s3: Any, box: str, asked: str, found: bytes, said: str) -> None:
    s3.put_object(Bucket=box, Key="digits", Body=b"0123456789")

    got = s3.get_object(Bucket=box, Key="digits", Range=asked)

    assert got["Body"].read() == found
    assert got["ContentRange"] == said
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_a_range_beyond_the_end_is_refused(s3: Any, box: str) -> None:
    s3.put_object(Bucket=box, Key="digits", Body=b"0123456789")

    assert refusal(s3.get_object, Bucket=box, Key="digits", Range="bytes=10-") == (
        "InvalidRange",
        416,
    )


def test_conditions_of_reads_and_writes(s3: Any, box: str) -> None:
    etag = s3.put_object(Bucket=box, Key="once", Body=b"1")["ETag"]

    assert refusal(s3.put_object, Bucket=box, Key="once", Body=b"2", IfNoneMatch="*") == (
        "PreconditionFailed",
        412,
    )
    assert refusal(s3.put_object, Bucket=box, Key="once", Body=b"2", IfMatch='"0"')[1] == 412
    assert refusal(s3.get_object, Bucket=box, Key="once", IfMatch='"0"')[1] == 412
    assert refusal(s3.get_object, Bucket=box, Key="once", IfNoneMatch=etag)[1] == 304
    assert s3.get_object(Bucket=box, Key="once")["Body"].read() == b"1"
    s3.put_object(Bucket=box, Key="once", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket=box, Key="once", IfMatch="*")["Body"].read() == b"2"


def test_a_body_that_does_not_match_what_was_said_of_it_is_not_kept(s3: Any, box: str) -> None:
    wrong = base64.b64encode(md5(b"other").digest()).decode()

    assert (
        refusal(s3.put_object, Bucket=box, Key="bad", Body=b"x", ContentMD5=wrong)[0] == "BadDigest"
    )
    assert refusal(s3.put_object, Bucket=box, Key="bad", Body=b"x", ChecksumCRC32="AAAAAA==") == (
        "BadDigest",
        400,
    )
    assert refusal(s3.head_object, Bucket=box, Key="bad") == ("404", 404)


def test_checksums_are_kept_and_told(s3: Any, box: str) -> None:
    sha = base64.b64encode(hashlib.sha256(b"x").digest()).decode()

    s3.put_object(Bucket=box, Key="sum", Body=b"x", ChecksumSHA256=sha)

    assert s3.head_object(Bucket=box, Key="sum", ChecksumMode="ENABLED")["ChecksumSHA256"] == sha


# the check values that the catalogue of CRCs gives for these nine bytes
NINE = b"123456789"
CRC32C = base64.b64encode(bytes.fromhex("e3069283")).decode()
CRC64 = base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()


def test_the_checksums_of_newer_clients_are_compared_and_told(s3: Any, box: str) -> None:
    s3.put_object(Bucket=box, Key="c", Body=NINE, ChecksumCRC32C=CRC32C)
    s3.put_object(Bucket=box, Key="n", Body=NINE, ChecksumCRC64NVME=CRC64)

    told = s3.head_object(Bucket=box, Key="n", ChecksumMode="ENABLED")
    assert (told["ChecksumCRC64NVME"], told["ChecksumType"]) == (CRC64, "FULL_OBJECT")
    assert refusal(s3.put_object, Bucket=box, Key="x", Body=b"x", ChecksumCRC64NVME=CRC64) == (
        "BadDigest",
        400,
    )


def test_an_upload_in_parts_is_compared_with_the_checksum_of_the_whole(s3: Any, box: str) -> None:
    begun = s3.create_multipart_upload(Bucket=box, Key="w", ChecksumAlgorithm="CRC64NVME")
    common = {"Bucket": box, "Key": "w", "UploadId": begun["UploadId"]}
    sent = s3.upload_part(**common, PartNumber=1, Body=NINE, ChecksumCRC64NVME=CRC64)
    parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}

    wrong = refusal(
        s3.complete_multipart_upload,
        **common,
        MultipartUpload=parts,
        ChecksumCRC64NVME="AAAAAAAAAAA=",
    )
    done = s3.complete_multipart_upload(
        **common, MultipartUpload=parts, ChecksumCRC64NVME=CRC64, ChecksumType="FULL_OBJECT"
    )

    assert wrong == ("BadDigest", 400)
    assert (begun["ChecksumType"], done["ChecksumType"]) == ("FULL_OBJECT", "FULL_OBJECT")
    assert done["ChecksumCRC64NVME"] == CRC64


def test_a_kind_of_checksum_that_an_algorithm_does_not_have_is_refused(s3: Any, box: str) -> None:
    asked = {"Bucket": box, "Key": "k", "ChecksumAlgorithm": "SHA256"}

    assert refusal(s3.create_multipart_upload, **asked, ChecksumType="FULL_OBJECT") == (
        "InvalidRequest",
        400,
    )


def test_a_checksum_that_cannot_be_compared_is_refused(s3: Any, box: str) -> None:
    assert refusal(
        s3.put_object, Bucket=box, Key="c", Body=b"x", ChecksumXXHASH64="AAAAAAAAAAA="
    ) == (
        "NotImplemented",
        501,
    )


def test_listings_page_through_folders_in_the_order_of_bytes(s3: Any) -> None:
    s3.create_bucket(Bucket="listed")
    keys = ["a", "b/1", "b/2", "c/x/1", "d", "é", "\U0001f600"]
    for key in keys:
        s3.put_object(Bucket="listed", Key=key, Body=b"")

    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="listed", Delimiter="/", PaginationConfig={"PageSize": 2}
    )
    found = [
        key
        for page in pages
        for key in sorted(
            [each["Key"] for each in page.get("Contents", [])]
            + [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        )
    ]

    assert found == ["a", "b/", "c/", "d", "é", "\U0001f600"]
    flat = s3.list_objects(Bucket="listed", MaxKeys=3, Marker="a")
    assert [each["Key"] for each in flat["Contents"]] == ["b/1", "b/2", "c/x/1"]
    assert flat["IsTruncated"]
    after = s3.list_objects_v2(Bucket="listed", StartAfter="d")
    assert [each["Key"] for each in after["Contents"]] == ["é", "\U0001f600"]


def test_a_copy_is_an_object_of_its_own(s3: Any, box: str) -> None:
    s3.put_object(Bucket=box, Key="from here", Body=b"one", Metadata={"m": "1"})

    s3.copy_object(Bucket=box, Key="to", CopySource={"Bucket": box, "Key": "from here"})
    s3.delete_object(Bucket=box, Key="from here")

    got = s3.get_object(Bucket=box, Key="to")
    assert (got["Body"].read(), got["Metadata"]) == (b"one", {"m": "1"})
    assert (
        refusal(s3.copy_object, Bucket=box, Key="to", CopySource=f"{box}/to")[0] == "InvalidRequest"
    )


def test_many_objects_are_deleted_at_once(s3: Any, box: str) -> None:
    for number in range(3):
        s3.put_object(Bucket=box, Key=f"many/{number}", Body=b"")

    said = s3.delete_objects(
        Bucket=box, Delete={"Objects": [{"Key": f"many/{n}"} for n in range(4)]}
    )

    assert len(said["Deleted"]) == 4
    assert s3.list_objects_v2(Bucket=box, Prefix="many/")["KeyCount"] == 0


def test_an_upload_in_parts(s3: Any, box: str) -> None:
    parts = [b"a" * (5 * MIB), b"b" * 10]
    upload = s3.create_multipart_upload(Bucket=box, Key="big", ContentType="text/plain")["UploadId"]

    tags = [
        s3.upload_part(Bucket=box, Key="big", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, 1)
    ]
    listed = s3.list_parts(Bucket=box, Key="big", UploadId=upload)["Parts"]
    chosen = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    done = s3.complete_multipart_upload(
        Bucket=box, Key="big", UploadId=upload, MultipartUpload={"Parts": chosen}
    )

    assert [each["Size"] for each in listed] == [5 * MIB, 10]
    digest = md5(b"".join(md5(part).digest() for part in parts)).hexdigest()
    assert done["ETag"] == f'"{digest}-2"'
    got = s3.get_object(Bucket=box, Key="big", Range=f"bytes={5 * MIB - 1}-{5 * MIB}")
    assert got["Body"].read() == b"ab"
    assert refusal(s3.list_parts, Bucket=box, Key="big", UploadId=upload) == ("NoSuchUpload", 404)


def test_parts_that_are_too_small_missing_or_out_of_order(s3: Any, box: str) -> None:
    upload = s3.create_multipart_upload(Bucket=box, Key="p")["UploadId"]
    tags = {
        number: s3.upload_part(Bucket=box, Key="p", UploadId=upload, PartNumber=number, Body=b"x")[
            "ETag"
        ]
        for number in (1, 2)
    }

    def complete(numbers: list[int], tag: str | None = None) -> tuple[str, int]:
        parts = [{"PartNumber": n, "ETag": tag or tags.get(n, '"0"')} for n in numbers]
        return refusal(
            s3.complete_multipart_upload,
            Bucket=box,
            Key="p",
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )

    assert complete([1, 2]) == ("EntityTooSmall", 400)
    assert complete([2, 1]) == ("InvalidPartOrder", 400)
    assert complete([1, 3]) == ("InvalidPart", 400)
    assert complete([1], '"0"') == ("InvalidPart", 400)
    s3.abort_multipart_upload(Bucket=box, Key="p", UploadId=upload)
    assert refusal(s3.head_object, Bucket=box, Key="p")[1] == 404


def test_large_files_go_both_ways_in_parts_and_through_little_memory(
    server: Server, s3: Any, box: str, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 4096 * 48  # 48 MiB
    (tmp_path / "up").write_bytes(data)
    before = psutil.Process(server.pid).memory_info().rss

    s3.put_object(Bucket=box, Key="whole", Body=io.BytesIO(data))
    s3.upload_file(str(tmp_path / "up"), box, "parts")
    s3.download_file(box, "parts", str(tmp_path / "down"))

    assert (tmp_path / "down").read_bytes() == data
    assert s3.head_object(Bucket=box, Key="whole")["ETag"] == f'"{md5(data).hexdigest()}"'
    assert psutil.Process(server.pid).memory_info().rss - before < 40 * MIB


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_addresses(server: Server, box: str, version: str) -> None:
    s3 = server.client("s3", config=Config(signature_version=version))
    put = s3.generate_presigned_url(
        "put_object", Params={"Bucket": box, "Key": f"signed {version}", "ContentType": "text/x"}
    )
    get = s3.generate_presigned_url(
        "get_object", Params={"Bucket": box, "Key": f"signed {version}"}
    )

    asked = urllib.request.Request(
        put, data=b"hello", method="PUT", headers={"Content-Type": "text/x"}
    )
    with urllib.request.urlopen(asked) as done:
        assert done.status == 200
    with urllib.request.urlopen(get) as got:
        assert got.read() == b"hello"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(get.replace("signed", "other"))
    assert caught.value.code == 403
    assert b"SignatureDoesNotMatch" in caught.value.read()


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_presigned_address_ends(server: Server, box: str, version: str) -> None:
    s3 = server.client("s3", config=Config(signature_version=version))
    url = s3.generate_presigned_url("get_object", Params={"Bucket": box, "Key": "x"}, ExpiresIn=-10)

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)

    assert caught.value.code in (400, 403)


def test_a_header_that_says_otherwise_than_a_presigned_address_is_refused(
    server: Server, box: str
) -> None:
    s3 = server.client("s3", config=Config(signature_version="s3"))
    put = s3.generate_presigned_url(
        "put_object", Params={"Bucket": box, "Key": "kind", "Metadata": {"by": "ann"}}
    )
    asked = urllib.request.Request(
        put, data=b"hello", method="PUT", headers={"x-amz-meta-by": "eve"}
    )

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked)

    assert caught.value.code == 403


@pytest.mark.parametrize("text", ["%C2%B2", "9" * 5000, "-1"])
def test_an_end_that_is_no_time_is_refused(server: Server, box: str, text: str) -> None:
    for version, name in (("s3", "Expires"), ("s3v4", "X-Amz-Expires")):
        s3 = server.client("s3", config=Config(signature_version=version))
        url = s3.generate_presigned_url("get_object", Params={"Bucket": box, "Key": "x"})
        ends = re.sub(rf"(?<=[?&]){name}=[0-9]+", f"{name}={text}", url)

        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(ends)

        assert caught.value.code in (400, 403)


def test_chunks_with_a_checksum_at_the_end(server: Server, s3: Any, box: str) -> None:
    def put(body: bytes, said: int) -> tuple[int, bytes]:
        crc = base64.b64encode(said.to_bytes(4, "big")).decode()
        coded = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n"
        coded += f"x-amz-checksum-crc32:{crc}\r\n\r\n".encode()
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(body)),
            "x-amz-trailer": "x-amz-checksum-crc32",
            "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        }
        asked = AWSRequest("PUT", f"{server.url}/{box}/chunked", headers=headers)

        class Signer(S3SigV4Auth):  # type: ignore[misc]
            def payload(self, request: Any) -> str:
                return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

        Signer(Credentials(server.key.id, server.key.secret), "s3", "us-east-1").add_auth(asked)
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        connection.request("PUT", f"/{box}/chunked", body=coded, headers=dict(asked.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert put(b"hello", zlib.crc32(b"hello")) == (200, b"")
    status, said = put(b"hullo", zlib.crc32(b"hello"))

    assert status == 400
    assert b"BadDigest" in said
    assert s3.get_object(Bucket=box, Key="chunked")["Body"].read() == b"hello"


def test_buckets_are_made_found_and_deleted_once_they_are_empty(s3: Any) -> None:
    s3.create_bucket(Bucket="short-lived")
    s3.put_object(Bucket="short-lived", Key="k", Body=b"")

    assert refusal(s3.delete_bucket, Bucket="short-lived") == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="short-lived", Key="k")
    s3.delete_bucket(Bucket="short-lived")
    assert refusal(s3.head_bucket, Bucket="short-lived") == ("404", 404)
    assert refusal(s3.get_object, Bucket="short-lived", Key="k") == ("NoSuchBucket", 404)


def test_names_that_no_bucket_can_have(server: Server) -> None:
    for name in ("Upper", "ab", "1.2.3.4", "a..b"):
        asked = AWSRequest("PUT", f"{server.url}/{name}")
        S3SigV4Auth(Credentials(server.key.id, server.key.secret), "s3", "us-east-1").add_auth(
            asked
        )
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        connection.request("PUT", f"/{name}", headers=dict(asked.headers))
        assert b"InvalidBucketName" in connection.getresponse().read()


def test_another_account_is_not_the_owner(s3: Any, box: str) -> None:
    assert refusal(s3.get_object, Bucket=box, Key="x", ExpectedBucketOwner="999999999999") == (
        "AccessDenied",
        403,
    )


def test_what_is_not_supported_says_so(s3: Any, box: str) -> None:
    assert refusal(s3.get_bucket_policy, Bucket=box) == ("NotImplemented", 501)
