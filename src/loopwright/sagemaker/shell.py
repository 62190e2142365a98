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
_SHIM = '''"""Sends requests of the SageMaker SDKs for amazonaws.com to AWS_ENDPOINT_URL (loopwright)."""

import importlib.abc
import importlib.util
import os
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "botocore.session":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _redirect(module)

            spec.loader.exec_module = exec_module
        return spec


def _redirect(module):
    plain = module.Session.create_client

    def create_client(self, *args, **kwargs):
        own = os.environ.get("AWS_ENDPOINT_URL")
        url = kwargs.get("endpoint_url")
        if own and url and url.split("/")[2].split(":")[0].endswith(".amazonaws.com"):
            kwargs["endpoint_url"] = own
        return plain(self, *args, **kwargs)

    module.Session.create_client = create_client


def _next():
    """Run the sitecustomize that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        path = os.path.join(folder or ".", "sitecustomize.py")
        if os.path.abspath(folder or ".") != here and os.path.isfile(path):
            spec = importlib.util.spec_from_file_location("_hidden_sitecustomize", path)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
            return


sys.meta_path.insert(0, _Finder())
_next()
'''


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
    write_atomically(folder / "sitecustomize.py", _SHIM.encode())
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
