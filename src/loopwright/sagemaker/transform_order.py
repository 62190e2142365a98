"""A batch transform as compute runs it, made of the request of a client."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from loopwright.compute import JobSpec, Resources
from loopwright.deploy import CodeSettings
from loopwright.sagemaker.container import MULTI_MODEL, containers_of, mode_of
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.instance import placed
from loopwright.sagemaker.json_path import path_of
from loopwright.sagemaker.model_place import code_settings
from loopwright.sagemaker.model_record import MODELS
from loopwright.sagemaker.serving_plan import models_of
from loopwright.sagemaker.staging import channel_entries, refuse_missing_output, stage
from loopwright.sagemaker.training_order import job_key, staging_folder
from loopwright.sagemaker.transform_record import form_of
from loopwright.sagemaker.transform_worker import ORDER_FILE, OWN
from loopwright.store import Record
from loopwright.train.script_contract import installer_environment

KIND = "sagemaker-transform"
_LONGEST_S = 5 * 86_400.0
_PAYLOAD_MIB, _LARGEST_PAYLOAD_MIB = 6, 100
_TIMEOUT_S, _RETRIES = 600.0, 3
_MOST_CONCURRENT = 32
_TRIES = 2
_TOLD = ("own", "host", "accept", "kind", "path", "digest", "settings")


def checked_transform(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> str:
    """Check all of a request that can be checked before anything is written.

    Returns in words what the job gets less than it asked for.

    Raises
    ------
    ApiError
        If the job cannot be run here.
    """
    _check_model(MODELS.get(desk, caller, given["ModelName"]))
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


def _check_model(record: Record) -> None:
    """Refuse a model of which a batch cannot say which part is meant."""
    containers = containers_of(record)
    if any(each.get("Mode") == MULTI_MODEL for each in containers):
        raise validation("Batch transform does not support multi-model containers.")
    if len(containers) > 1 and mode_of(record.body["request"]) == "Direct":
        raise validation("Batch transform does not support containers that are invoked directly.")


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
    model = models_of(
        desk,
        MODELS.get(desk, caller, given["ModelName"]),
        own=OWN,
        environment=given.get("Environment"),
    )
    resources, _ = _resources(desk, given)
    concurrent, n_instances = _concurrent(given), given["TransformResources"]["InstanceCount"]
    about: list[dict[str, Any]] = []
    env = {"SAGEMAKER_BATCH": "true"}
    for place, each in enumerate(model.get("containers", (model,))):
        code = code_settings(desk, caller, each, n_instances=concurrent * n_instances)
        told, own_env = _code(code, given, resources, place=place)
        about.append({**{key: each[key] for key in _TOLD if key in each}, **told})
        env |= own_env
    order = {
        "containers": about,
        "inputs": inputs,
        "content_type": source.get("ContentType", ""),
        "is_gzip": source.get("CompressionType", "None") == "Gzip",
        "split": source.get("SplitType", "None"),
        # SageMaker's own default where there is a split
        "is_multi": given.get("BatchStrategy", "MultiRecord") == "MultiRecord"
        and source.get("SplitType", "None") != "None",
        "payload_mib": given.get("MaxPayloadInMB", _PAYLOAD_MIB),
        "concurrent": concurrent,
        # each works at a file of its own
        "instances": n_instances,
        # code has processes of its own
        "workers": 1
        if any("code" in each for each in about)
        else max(1, min(n_instances, int(resources.cpus))),
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
        # where packages come from; the script itself does not see it
        env={**installer_environment(), **env},
        resources=resources,
        time_limit_s=_LONGEST_S,
        labels={"arn": arn},
        retries=_TRIES,
        checkpoint=True,
    )


def _code(
    code: CodeSettings | None, given: Mapping[str, Any], resources: Resources, *, place: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return how the code of a container is run, and the variables of the job that hold its own."""
    if code is None:
        return {}, {}
    # the values are in the environment of the job alone; those of each container under other names
    names = {name: f"CONTAINER_{place}_{name}" if place else name for name in code.variables}
    told = {
        "program": code.program,
        "environments": code.environments,
        "framework": list(code.framework),
        "processes": code.processes,
        "memory": f"{max(256, int(resources.memory_mib * 0.9))} MiB",
        "timeout_s": _timeout(given),
        "passed_on": {**names, "SAGEMAKER_BATCH": "SAGEMAKER_BATCH"},
    }
    return {"code": told}, {names[name]: value for name, value in code.variables.items()}


def _timeout(given: Mapping[str, Any]) -> float:
    about = given.get("ModelClientConfig", {})
    return float(about.get("InvocationsTimeoutInSeconds", _TIMEOUT_S))
