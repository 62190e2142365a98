"""The environment in which clients of AWS talk to this machine, and to nobody else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from loopwright.core.files import write_atomically
from loopwright.loop.workspace import Workspace
from loopwright.sagemaker.key import key_of

# The SDKs have the address of STS written into them. This runs when Python starts, and sends
# whatever is meant for amazonaws.com to AWS_ENDPOINT_URL.
_SHIM = Path(__file__).parent / "inside" / "sitecustomize.py"


def shell_variables(
    workspace: Workspace, *, url: str, region: str, account: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables, having written the two files they name into the home.

    Parameters
    ----------
    url
        Where the server listens.
    environ
        The environment of the shell, whose `PYTHONPATH` is kept.
    """
    key = key_of(workspace.metadata, user=workspace.user, purpose="person", account=account)
    folder = workspace.home / "sagemaker" / "client"
    write_atomically(folder / "sitecustomize.py", _SHIM.read_bytes())
    settings = folder / f"sdk-{region}-{account}.json"
    write_atomically(settings, json.dumps(_sdk_settings(region, account), indent=1).encode())
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": url,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings),
        "PYTHONPATH": _python_path(folder, environ.get("PYTHONPATH", "")),
    }


def _python_path(folder: Path, known: str) -> str:
    rest = [each for each in known.split(os.pathsep) if each and each != str(folder)]
    return os.pathsep.join([str(folder), *rest])


def _sdk_settings(region: str, account: str) -> dict[str, object]:
    """Return the SDK's own settings; JSON is YAML. Its telemetry would leave the machine."""
    bucket = f"sagemaker-{region}-{account}"
    modules = {"TelemetryOptOut": True, "Session": {"DefaultS3Bucket": bucket}}
    return {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": modules}}}
