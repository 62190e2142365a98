from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.errors import BackendError
from loopwright.data.credential import check_credentials, store_options

NOWHERE = Path("/nowhere")
WAYS = [
    ("s3", {"AWS_ACCESS_KEY_ID": "ann", "AWS_SECRET_ACCESS_KEY": "s"}),
    ("s3", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn"}),
    ("s3", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}),
    ("s3", {"AWS_SKIP_SIGNATURE": "true"}),
    ("s3", {"AWS_EC2_METADATA_DISABLED": "false"}),
    ("s3", {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}),
    ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}),
    ("az", {"AZURE_STORAGE_ACCOUNT_KEY": "k"}),
    ("az", {"AZURE_CLIENT_SECRET": "k"}),
]


@pytest.mark.parametrize(("scheme", "environ"), WAYS)
def test_every_way_to_be_known_to_a_store_is_enough(scheme: str, environ: dict[str, str]):
    check_credentials(scheme, f"{scheme}://b/a.csv", environ, vendor=NOWHERE)


@pytest.mark.parametrize(
    ("scheme", "named"),
    [
        ("s3", "AWS_ACCESS_KEY_ID"),
        ("gs", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_an_environment_without_credentials_is_told_what_to_set(scheme: str, named: str):
    with pytest.raises(BackendError, match="no credentials") as caught:
        check_credentials(scheme, f"{scheme}://b/a.csv", {"HOME": "/nowhere"}, vendor=NOWHERE)

    assert named in str(caught.value)
    assert not caught.value.retryable


def test_a_machine_of_the_cloud_may_ask_its_own_metadata_service_alone(tmp_path: Path):
    vendor = tmp_path / "sys_vendor"
    vendor.write_text("Amazon EC2\n")

    check_credentials("s3", "s3://b/a.csv", {}, vendor=vendor)

    with pytest.raises(BackendError):
        check_credentials("gs", "gs://b/a.csv", {}, vendor=vendor)
    switched_off = {"AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(BackendError):
        check_credentials("s3", "s3://b/a.csv", switched_off, vendor=vendor)


def test_options_are_the_known_variables_and_of_aliases_the_first():
    environ = {
        "AWS_ENDPOINT": "http://old",
        "AWS_ENDPOINT_URL": "http://new",
        "AWS_PROFILE": "x",
        "AWS_TOKEN": "t",
        "AWS_REGION": "",
        "GOOGLE_SERVICE_ACCOUNT": "g",
    }

    options = store_options("s3", environ)

    assert options == {"AWS_ENDPOINT_URL": "http://new", "AWS_TOKEN": "t"}
