"""A training job as compute runs it, made of the request of a client."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopwright.compute import JobSpec, Limits, Resources
from loopwright.core.digest import digest_value
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.image import Image, image_of
from loopwright.sagemaker.instance import placed
from loopwright.sagemaker.staging import (
    channel_entries,
    fetched,
    refuse_missing_output,
    stage,
    unpack,
)
from loopwright.train import script_start
from loopwright.train.script import job_packages
from loopwright.train.script_contract import CODE_FOLDER, ORDER_FILE, ScriptOrder

KIND = "sagemaker-training"
GRACE_S = 120.0
_PACKING_S = 600.0
_REQUIREMENTS = "requirements.txt"
_ALGORITHM = ("python3", "-P", "-m", "loopwright.sagemaker.algorithm_worker")


def job_key(arn: str) -> str:
    """Return the key of the job behind an ARN."""
    return f"sagemaker/{arn}"


def staging_folder(desk: Desk, arn: str) -> Path:
    """Return where the data of a job lies until it has ended."""
    name = digest_value(arn).removeprefix("sha256:")[:32]
    return desk.workspace.home / "sagemaker" / "staging" / name


def checked_training(desk: Desk, _caller: Caller, given: Mapping[str, Any]) -> tuple[Image, str]:
    """Check all of a request that can be checked before anything is written.

    Returns the image, and in words what the job gets less than it asked for.

    Raises
    ------
    ApiError
        If the job cannot be run here.
    """
    about = given["AlgorithmSpecification"]
    if "TrainingImage" not in about:
        raise validation("Training with an algorithm of the marketplace is not supported yet.")
    image = image_of(about["TrainingImage"])
    _, note = _resources(desk, given)
    for channel in given.get("InputDataConfig", ()):
        channel_entries(desk, channel)
    names = [each["ChannelName"] for each in given.get("InputDataConfig", ())]
    if len(set(names)) < len(names):
        raise validation("Channel names must be unique within a training job.")
    output = given["OutputDataConfig"].get("S3OutputPath")
    if output:
        refuse_missing_output(desk, output)
    for each in about.get("MetricDefinitions", ()):
        try:
            groups = re.compile(each["Regex"]).groups
        except re.error as error:
            raise validation(
                f"The regex of the metric {each['Name']} is invalid: {error}."
            ) from error
        if not groups:
            raise validation(f"The regex of the metric {each['Name']} has no group.")
    parameters = given.get("HyperParameters", {})
    if image.kind == "algorithm" and not is_script(parameters):
        from loopwright.sagemaker.algorithm import checked_hyperparameters

        checked_hyperparameters(image.algorithm, parameters)
    elif not is_script(parameters) and not about.get("ContainerEntrypoint"):
        raise validation(
            f"The image {image.repository!r} cannot be pulled: loopwright runs scripts, entry points "
            "and its own algorithms, not images. Give a source_dir or a ContainerEntrypoint."
        )
    return image, note


def is_script(parameters: Mapping[str, str]) -> bool:
    """Return whether hyperparameters name a script, as the second SDK has them."""
    return "sagemaker_program" in parameters


def _resources(desk: Desk, given: Mapping[str, Any]) -> tuple[Resources, str]:
    asked = given.get("ResourceConfig", {})
    if "InstanceType" not in asked:
        raise validation(
            "ResourceConfig.InstanceType is needed; instance groups are not supported."
        )
    capacity = desk.workspace.compute.capacity()
    return placed(asked["InstanceType"], asked.get("InstanceCount", 1), capacity)


def training_spec(
    desk: Desk, caller: Caller, given: Mapping[str, Any], *, arn: str, image: Image
) -> JobSpec:
    """Return the job of a request whose data has been put into its staging folder."""
    folder = staging_folder(desk, arn)
    shutil.rmtree(folder, ignore_errors=True)
    channels = {}
    for channel in given.get("InputDataConfig", ()):
        name = channel["ChannelName"]
        stage(desk, channel_entries(desk, channel), folder / "channels" / name)
        channels[name] = str(folder / "channels" / name)
    texts = dict(given.get("HyperParameters", {}))
    files, entry, wanted, command = _program(desk, given, texts, folder=folder, image=image)
    resources, _ = _resources(desk, given)
    limit = given.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86_400)
    variables = dict(given.get("Environment", {}))
    environment = {**client_environment(desk, caller), **variables}
    order = ScriptOrder(
        name=given["TrainingJobName"],
        entry_point=entry,
        channels=channels,
        hyperparameters={name: _decoded(text) for name, text in texts.items()},
        metrics={
            each["Name"]: each["Regex"]
            for each in _metric_definitions(given, image, is_plain=not is_script(texts))
        },
        cpus=math.ceil(resources.cpus),
        gpus=resources.gpus,
        python=sys.executable,
        packages=job_packages(),
        requirements=wanted,
        environments=str(desk.workspace.home / "environments"),
        checkpoints=_checkpoints(desk, given, folder),
        executables=(),
        time_limit_s=float(limit),
        grace_s=GRACE_S,
        variables=tuple(sorted(environment)),
        command=command,
        instance=given["ResourceConfig"]["InstanceType"],
        arn=arn,
        texts=texts,
        content_types={
            each["ChannelName"]: each["ContentType"]
            for each in given.get("InputDataConfig", ())
            if "ContentType" in each
        },
    )
    return JobSpec(
        key=job_key(arn),
        name=given["TrainingJobName"],
        kind=KIND,
        command=(sys.executable, "-I", "-S", str(script_start.__file__)),
        files={**files, ORDER_FILE: json.dumps(order.to_json(), indent=1).encode()},
        env=environment,
        resources=resources,
        time_limit_s=limit + GRACE_S + _PACKING_S,
        labels={"arn": arn},
        limits=Limits(),
        retries=given.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0),
    )


def _program(
    desk: Desk,
    given: Mapping[str, Any],
    texts: Mapping[str, str],
    *,
    folder: Path,
    image: Image,
) -> tuple[dict[str, bytes | Path], str, str | None, tuple[str, ...]]:
    """Return the files of code, the entry point, the requirements and the command of a job."""
    about = given["AlgorithmSpecification"]
    if about.get("ContainerEntrypoint"):
        command = (*about["ContainerEntrypoint"], *about.get("ContainerArguments", ()))
        # an environment of its own, so that what the job installs never lands in ours
        own = folder / "channels" / "code" / _REQUIREMENTS
        wanted: bytes | Path = own if own.is_file() else b""
        return {_REQUIREMENTS: wanted}, "train", _REQUIREMENTS, command
    if is_script(texts):
        archive = fetched(
            desk, str(_decoded(texts["sagemaker_submit_directory"])), folder / "code.tgz"
        )
        unpack(archive, folder / "code")
        code = sorted(each for each in (folder / "code").rglob("*") if each.is_file())
        files: dict[str, bytes | Path] = {
            f"{CODE_FOLDER}/{path.relative_to(folder / 'code').as_posix()}": path for path in code
        }
        entry = str(_decoded(texts["sagemaker_program"]))
        if f"{CODE_FOLDER}/{entry}" not in files:
            raise validation(f"There is no {entry!r} in {texts['sagemaker_submit_directory']}.")
        known = f"{CODE_FOLDER}/{_REQUIREMENTS}"
        return files, entry, known if known in files else None, ()
    return {}, image.algorithm, None, (*_ALGORITHM, image.algorithm)


def _decoded(text: str) -> Any:
    """Return a hyperparameter as the toolkit reads it: JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _metric_definitions(
    given: Mapping[str, Any], image: Image, *, is_plain: bool
) -> list[dict[str, str]]:
    named = list(given["AlgorithmSpecification"].get("MetricDefinitions", ()))
    if image.kind == "algorithm" and is_plain:
        from loopwright.sagemaker.algorithm import metric_definitions

        named += metric_definitions(image.algorithm)
    return named


def _checkpoints(desk: Desk, given: Mapping[str, Any], folder: Path) -> str | None:
    """Return a folder with what is in S3 of earlier checkpoints, or None."""
    about = given.get("CheckpointConfig")
    if about is None:
        return None
    from loopwright.sagemaker.staging import prefix_entries

    place = folder / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    for bucket, name, entry in prefix_entries(desk, about["S3Uri"].rstrip("/") + "/"):
        # copied, since the job writes there
        target = place / name
        if not target.resolve().is_relative_to(place.resolve()):
            raise validation(f"The key of s3://{bucket}/{entry.key} cannot be a path in the job.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(desk.objects.files.path(entry.file), target)
    return str(place)


def client_environment(desk: Desk, caller: Caller) -> dict[str, str]:
    """Return what lets clients of AWS inside the job reach this server."""
    key, secret = desk.job_key
    return {
        "AWS_ENDPOINT_URL": desk.url,
        "S3_ENDPOINT_URL": desk.url,
        "AWS_REGION": caller.region,
        "AWS_DEFAULT_REGION": caller.region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": desk.url,
    }
