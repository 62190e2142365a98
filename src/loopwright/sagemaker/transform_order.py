"""A batch transform as compute runs it, made of the request of a client."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from loopwright.compute import JobSpec, Resources
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.instance import placed
from loopwright.sagemaker.json_path import path_of
from loopwright.sagemaker.model_place import code_settings, model_of
from loopwright.sagemaker.model_record import MODELS, container_of
from loopwright.sagemaker.staging import channel_entries, refuse_missing_output, stage
from loopwright.sagemaker.training_order import job_key, staging_folder
from loopwright.sagemaker.transform_record import form_of
from loopwright.sagemaker.transform_worker import ORDER_FILE

KIND = "sagemaker-transform"
_LONGEST_S = 5 * 86_400.0
_PAYLOAD_MIB, _LARGEST_PAYLOAD_MIB = 6, 100
_TIMEOUT_S, _RETRIES = 600.0, 3
_MOST_CONCURRENT = 32
_TRIES = 2


def checked_transform(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> str:
    """Check all of a request that can be checked before anything is written.

    Returns in words what the job gets less than it asked for.

    Raises
    ------
    ApiError
        If the job cannot be run here.
    """
    MODELS.get(desk, caller, given["ModelName"])
    _, note = _resources(desk, given)
    source = given["TransformInput"]
    channel_entries(desk, source)
    refuse_missing_output(desk, given["TransformOutput"]["S3OutputPath"])
    _check_sizes(given)
    about = given.get("DataProcessing", {})
    paths = [path_of(about.get(name, "$")) for name in ("InputFilter", "OutputFilter")]
    joins = about.get("JoinSource", "None") == "Input"
    kind = form_of(source.get("ContentType", ""))
    if (any(paths) or joins) and not kind:
        raise validation(
            "DataProcessing needs the ContentType text/csv, application/json or "
            "application/jsonlines."
        )
    accept = given["TransformOutput"].get("Accept", "")
    if joins and accept and form_of(accept) != kind:
        raise validation(
            "To join the input to the output, ContentType and Accept must both be CSV or both be "
            "JSON."
        )
    return note


def _check_sizes(given: Mapping[str, Any]) -> None:
    payload, concurrent = given.get("MaxPayloadInMB", _PAYLOAD_MIB), _concurrent(given)
    if payload > _LARGEST_PAYLOAD_MIB or payload * concurrent > _LARGEST_PAYLOAD_MIB:
        raise validation(
            "The value of MaxPayloadInMB cannot be greater than 100 MB, and MaxConcurrentTransforms "
            "* MaxPayloadInMB must not exceed 100 MB."
        )
    if given["TransformInput"].get("SplitType", "None") == "None":
        strategy = given.get("BatchStrategy")
        if strategy == "MultiRecord" and given["TransformOutput"].get("AssembleWith") == "Line":
            raise validation("BatchStrategy MultiRecord with AssembleWith Line needs a SplitType.")


def _concurrent(given: Mapping[str, Any]) -> int:
    return max(1, min(int(given.get("MaxConcurrentTransforms") or 1), _MOST_CONCURRENT))


def _resources(desk: Desk, given: Mapping[str, Any]) -> tuple[Resources, str]:
    asked = given["TransformResources"]
    capacity = desk.workspace.compute.capacity()
    return placed(asked["InstanceType"], asked["InstanceCount"], capacity, usage="transform job")


def transform_spec(desk: Desk, caller: Caller, given: Mapping[str, Any], *, arn: str) -> JobSpec:
    """Return the job of a request whose data has been put into its staging folder."""
    folder = staging_folder(desk, arn)
    shutil.rmtree(folder, ignore_errors=True)
    source = given["TransformInput"]
    entries = channel_entries(desk, source)
    stage(desk, entries, folder / "inputs")
    inputs = [
        {"path": str(folder / "inputs" / name), "name": name, "key": f"{bucket}/{entry.key}"}
        for bucket, name, entry in entries
        if PurePosixPath(name).name
    ]
    container = dict(container_of(MODELS.get(desk, caller, given["ModelName"])))
    container["Environment"] = {
        **container.get("Environment", {}),
        **given.get("Environment", {}),
    }
    model = model_of(desk, container)
    resources, _ = _resources(desk, given)
    concurrent = _concurrent(given)
    code = code_settings(desk, caller, model, n_instances=concurrent)
    about = {key: model[key] for key in ("kind", "path", "digest", "settings")}
    if code is not None:
        about["code"] = {
            "program": code.program,
            "environments": code.environments,
            "processes": code.processes,
            "memory": f"{max(256, int(resources.memory_mib * 0.9))} MiB",
            "timeout_s": _timeout(given),
            # their values are in the environment alone
            "passed_on": sorted({*code.variables, "SAGEMAKER_BATCH"}),
        }
    order = {
        "model": about,
        "inputs": inputs,
        "content_type": source.get("ContentType", ""),
        "is_gzip": source.get("CompressionType", "None") == "Gzip",
        "split": source.get("SplitType", "None"),
        # SageMaker's own default where there is a split
        "is_multi": given.get("BatchStrategy", "MultiRecord") == "MultiRecord"
        and source.get("SplitType", "None") != "None",
        "payload_mib": given.get("MaxPayloadInMB", _PAYLOAD_MIB),
        "concurrent": concurrent,
        "accept": given["TransformOutput"].get("Accept", ""),
        "assemble": given["TransformOutput"].get("AssembleWith", "None"),
        "before": given.get("DataProcessing", {}).get("InputFilter", "$"),
        "after": given.get("DataProcessing", {}).get("OutputFilter", "$"),
        "joins": given.get("DataProcessing", {}).get("JoinSource", "None") == "Input",
        "timeout_s": _timeout(given),
        "retries": given.get("ModelClientConfig", {}).get("InvocationsMaxRetries", _RETRIES),
    }
    return JobSpec(
        key=job_key(arn),
        name=given["TransformJobName"],
        kind=KIND,
        command=(sys.executable, "-P", "-m", "loopwright.sagemaker.transform_worker"),
        files={ORDER_FILE: json.dumps(order, indent=1).encode()},
        env={**(code.variables if code else {}), "SAGEMAKER_BATCH": "true"},
        resources=resources,
        time_limit_s=_LONGEST_S,
        labels={"arn": arn},
        retries=_TRIES,
        checkpoint=True,
    )


def _timeout(given: Mapping[str, Any]) -> float:
    about = given.get("ModelClientConfig", {})
    return float(about.get("InvocationsTimeoutInSeconds", _TIMEOUT_S))
