"""What the environment says of an object store: its options, and whether it holds any credentials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loopwright.core.errors import BackendError

PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
NAMED = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION (and AWS_ENDPOINT_URL for stores "
    "that are not Amazon's)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
# variables after the prefix; of those that mean the same (`|`) the first that is set is taken
_OPTIONS = {
    "s3": "ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN|TOKEN REGION DEFAULT_REGION "
    "ENDPOINT_URL_S3|ENDPOINT_URL|ENDPOINT ROLE_ARN ROLE_SESSION_NAME WEB_IDENTITY_TOKEN_FILE "
    "CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI "
    "CONTAINER_AUTHORIZATION_TOKEN_FILE METADATA_ENDPOINT IMDSV1_FALLBACK SKIP_SIGNATURE "
    "VIRTUAL_HOSTED_STYLE_REQUEST S3_EXPRESS UNSIGNED_PAYLOAD REQUEST_PAYER",
    "gs": "APPLICATION_CREDENTIALS SERVICE_ACCOUNT|SERVICE_ACCOUNT_PATH SERVICE_ACCOUNT_KEY "
    "BEARER_TOKEN BASE_URL SKIP_SIGNATURE",
    "az": "STORAGE_ACCOUNT_NAME STORAGE_ACCOUNT_KEY|STORAGE_ACCESS_KEY|STORAGE_MASTER_KEY "
    "STORAGE_SAS_KEY|STORAGE_SAS_TOKEN STORAGE_TOKEN CLIENT_ID|STORAGE_CLIENT_ID "
    "CLIENT_SECRET|STORAGE_CLIENT_SECRET TENANT_ID|STORAGE_TENANT_ID|AUTHORITY_ID "
    "AUTHORITY_HOST|STORAGE_AUTHORITY_HOST FEDERATED_TOKEN_FILE USE_AZURE_CLI "
    "IDENTITY_ENDPOINT|MSI_ENDPOINT MSI_RESOURCE_ID OBJECT_ID STORAGE_USE_EMULATOR "
    "STORAGE_ENDPOINT|ENDPOINT SKIP_SIGNATURE",
}
# any of these, all of whose variables (`+`) are set, is a way to be known to the store
_WAYS = {
    "s3": "ACCESS_KEY_ID+SECRET_ACCESS_KEY WEB_IDENTITY_TOKEN_FILE+ROLE_ARN "
    "CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI METADATA_ENDPOINT "
    "SKIP_SIGNATURE",
    "gs": "APPLICATION_CREDENTIALS SERVICE_ACCOUNT SERVICE_ACCOUNT_PATH SERVICE_ACCOUNT_KEY "
    "BEARER_TOKEN SKIP_SIGNATURE",
    "az": "STORAGE_ACCOUNT_KEY STORAGE_ACCESS_KEY STORAGE_MASTER_KEY STORAGE_SAS_KEY "
    "STORAGE_SAS_TOKEN STORAGE_TOKEN CLIENT_SECRET STORAGE_CLIENT_SECRET FEDERATED_TOKEN_FILE "
    "USE_AZURE_CLI IDENTITY_ENDPOINT MSI_ENDPOINT STORAGE_USE_EMULATOR SKIP_SIGNATURE",
}
_OWNERS = {"s3": "Amazon EC2", "gs": "Google", "az": "Microsoft Corporation"}
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")
_GCLOUD = ".config/gcloud/application_default_credentials.json"
_NO = ("", "0", "f", "false", "n", "no", "off")


def store_options(scheme: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what an environment sets of a store, by the names that the store knows."""
    prefix = PREFIXES[scheme]
    found = {}
    for group in _OPTIONS[scheme].split():
        names = [prefix + name for name in group.split("|")]
        first = next((name for name in names if environ.get(name)), None)
        if first is not None:
            found[first] = environ[first]
    return found


def check_credentials(
    scheme: str, url: str, environ: Mapping[str, str], *, vendor: Path | None = None
) -> None:
    """Raise if nothing says who is asking, before a metadata service is asked in vain.

    Parameters
    ----------
    scheme
        `s3`, `gs` or `az`.
    url
        The address, for the message.
    environ
        The environment. `AWS_EC2_METADATA_DISABLED=true` also rules out the metadata service on a
        machine of Amazon's, and `false` asks it anywhere.
    vendor
        Where the system names the maker of the machine: on a cloud's own machine the metadata
        service of that cloud may have credentials.

    Raises
    ------
    BackendError
        If the environment holds no credentials and this is no machine of the cloud.
    """
    prefix = PREFIXES[scheme]
    for way in _WAYS[scheme].split():
        if all(_is_set(environ.get(prefix + name, "")) for name in way.split("+")):
            return
    if scheme == "gs" and (Path(environ.get("HOME") or "/") / _GCLOUD).is_file():
        return
    if _has_metadata(scheme, environ, vendor or _VENDOR):
        return
    also = ""
    if scheme == "s3":
        also = (
            " Profiles of the aws command are not read: "
            '`eval "$(aws configure export-credentials --format env)"` sets the variables. '
            "For a public bucket set AWS_SKIP_SIGNATURE=true."
        )
    raise BackendError(
        f"{url} cannot be read: the environment holds no credentials for it.",
        hint=f"Set {NAMED[scheme]}.{also}",
        field="data.source.path",
    )


def _is_set(value: str) -> bool:
    return value.strip().lower() not in _NO


def _has_metadata(scheme: str, environ: Mapping[str, str], vendor: Path) -> bool:
    """Tell whether a metadata service may be asked: on a machine of the cloud, or where it is said."""
    if scheme == "s3" and (said := environ.get("AWS_EC2_METADATA_DISABLED")):
        return not _is_set(said)
    if scheme == "s3" and environ.get("AWS_EXECUTION_ENV", "").startswith(("AWS_ECS", "EC2")):
        return True
    try:
        return vendor.read_text().startswith(_OWNERS[scheme])
    except OSError:
        return False
