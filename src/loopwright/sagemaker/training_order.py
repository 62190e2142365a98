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
from loopwright.sagemaker import checkpoint
from loopwright.sagemaker.channel import about_channels, check_channels, staged_channels
from loopwright.sagemaker.cluster import first_instance, hosts_of, resources_for
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.image import Image, image_of
from loopwright.sagemaker.image_packages import image_packages
from loopwright.sagemaker.staging import fetched, refuse_missing_output, unpack
from loopwright.train import script_start
from loopwright.train.script import job_packages
from loopwright.train.script_contract import (
    BASE,
    CODE_FOLDER,
    ORDER_FILE,
    ScriptOrder,
    installer_environment,
)
from loopwright.train.script_host import Host

KIND = "sagemaker-training"
GRACE_S = 120.0
_PACKING_S = 600.0
_LONGEST_S = 86_400
# launchers of processes that the images of frameworks have
_LAUNCHERS = ("sagemaker_mpi_enabled", "sagemaker_torch_distributed_enabled")
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
    resources, note = _resources(desk, given)
    hosts = hosts_of(given["ResourceConfig"], resources)
    check_channels(desk, given, hosts)
    _check_spot(given)
    checkpoint.local_path(given)
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
        note = _check_algorithm(given, n_hosts=len(hosts)) or note
    elif not is_script(parameters) and not about.get("ContainerEntrypoint"):
        raise validation(
            f"The image {image.repository!r} cannot be pulled: loopwright runs scripts, entry points "
            "and its own algorithms, not images. Give a source_dir or a ContainerEntrypoint."
        )
    elif len(hosts) > 1:
        _check_launcher(parameters)
    return image, note


def _check_spot(given: Mapping[str, Any]) -> None:
    about = given.get("StoppingCondition", {})
    if not given.get("EnableManagedSpotTraining"):
        if "MaxWaitTimeInSeconds" in about:
            raise validation(
                "Invalid MaxWaitTimeInSeconds. It cannot be set if EnableManagedSpotTraining is "
                "false."
            )
        return
    if about.get("MaxWaitTimeInSeconds", 0) < about.get("MaxRuntimeInSeconds", _LONGEST_S):
        raise validation(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            "MaxRuntimeInSeconds."
        )


def _check_algorithm(given: Mapping[str, Any], *, n_hosts: int) -> str:
    """Return in words what an algorithm of ours does otherwise."""
    for each in given.get("InputDataConfig", ()):
        if each.get("CompressionType") == "Gzip":
            raise validation(
                f"The channel {each['ChannelName']} is packed by gzip, which the algorithms do not "
                "read. Put the files into S3 unpacked."
            )
    if n_hosts == 1:
        return ""
    return (
        f"The {n_hosts} instances train as one, in one process with the CPUs of all that there "
        "are; sharded channels are read whole."
    )


def _check_launcher(parameters: Mapping[str, str]) -> None:
    for name in _LAUNCHERS:
        if parameters.get(name, "").strip('"').lower() == "true":
            raise validation(
                f"The hyperparameter {name} is not supported yet by loopwright: a script is started "
                "once on each instance, and finds the others by SM_HOSTS and MASTER_ADDR."
            )


def is_script(parameters: Mapping[str, str]) -> bool:
    """Return whether hyperparameters name a script, as the second SDK has them."""
    return "sagemaker_program" in parameters


def _resources(desk: Desk, given: Mapping[str, Any]) -> tuple[Resources, str]:
    return resources_for(given.get("ResourceConfig", {}), desk.workspace.compute.capacity())


def training_spec(
    desk: Desk, caller: Caller, given: Mapping[str, Any], *, arn: str, image: Image
) -> JobSpec:
    """Return the job of a request whose data has been put into its staging folder."""
    folder = staging_folder(desk, arn)
    shutil.rmtree(folder, ignore_errors=True)
    texts = dict(given.get("HyperParameters", {}))
    is_plain = _is_plain(given, image)
    resources, _ = _resources(desk, given)
    hosts = _hosts(given, resources, is_plain=is_plain)
    shown, own = staged_channels(desk, given, folder, hosts=hosts, is_plain=is_plain)
    files, entry, wanted, command = _program(desk, given, texts, folder=folder, image=image)
    limit = given.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _LONGEST_S)
    variables = dict(given.get("Environment", {}))
    is_isolated = bool(given.get("EnableNetworkIsolation"))
    environment = {
        **client_environment(desk, caller, is_isolated=is_isolated),
        **variables,
    }
    order = ScriptOrder(
        name=given["TrainingJobName"],
        entry_point=entry,
        channels={**shown.channels, **(own[hosts[0].name].channels if len(hosts) == 1 else {})},
        hyperparameters={name: _decoded(text) for name, text in texts.items()},
        metrics={each["Name"]: each["Regex"] for each in metric_definitions_of(given)},
        cpus=math.ceil(resources.cpus),
        gpus=resources.gpus,
        python=sys.executable,
        packages=job_packages(),
        requirements=wanted,
        framework=image_packages(given["AlgorithmSpecification"]["TrainingImage"]),
        environments=str(desk.workspace.home / "environments"),
        checkpoints=checkpoint.restored(desk, given, folder),
        checkpoint_path=checkpoint.local_path(given),
        executables=(),
        time_limit_s=float(limit),
        grace_s=GRACE_S,
        variables=tuple(sorted(environment)),
        command=command,
        instance=first_instance(given["ResourceConfig"]),
        arn=arn,
        texts=texts,
        inputs=about_channels(given, is_plain=is_plain),
        pipes={**shown.pipes, **(own[hosts[0].name].pipes if len(hosts) == 1 else {})},
        hosts=tuple(
            each._replace(channels=own[each.name].channels, pipes=own[each.name].pipes)
            for each in hosts
        )
        if len(hosts) > 1
        else (),
        is_isolated=is_isolated,
    )
    return JobSpec(
        key=job_key(arn),
        name=given["TrainingJobName"],
        kind=KIND,
        command=(sys.executable, "-I", "-S", str(script_start.__file__)),
        files={**files, ORDER_FILE: json.dumps(order.to_json(), indent=1).encode()},
        # where packages come from; the script itself does not see it
        env={**installer_environment(), **environment},
        resources=resources,
        time_limit_s=limit + GRACE_S + _PACKING_S,
        labels={"arn": arn},
        limits=Limits(),
        retries=given.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0),
    )


def _is_plain(given: Mapping[str, Any], image: Image) -> bool:
    """Return whether an algorithm of ours does the job."""
    about = given["AlgorithmSpecification"]
    is_own = bool(about.get("ContainerEntrypoint")) or is_script(given.get("HyperParameters", {}))
    return image.kind == "algorithm" and not is_own


def _hosts(given: Mapping[str, Any], resources: Resources, *, is_plain: bool) -> list[Host]:
    """Return the hosts that the job has here: an algorithm of ours trains as one."""
    hosts = hosts_of(given["ResourceConfig"], resources)
    return hosts[:1] if is_plain else hosts


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
        archive = _archive(desk, str(_decoded(texts["sagemaker_submit_directory"])), folder)
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
    return {}, image.algorithm, None, (*_ALGORITHM, image.algorithm, image.tag)


def _archive(desk: Desk, place: str, folder: Path) -> Path:
    """Return the archive of code: an object, or a file of a channel, as isolated jobs have it."""
    root = f"{BASE}/input/data/"
    if not place.startswith(root):
        return fetched(desk, place, folder / "code.tgz")
    channels = (folder / "channels").resolve()
    path = channels / place.removeprefix(root)
    if not path.resolve().is_relative_to(channels) or not path.is_file():
        raise validation(f"There is no {place!r} in the channels of the job.")
    return path


def _decoded(text: str) -> Any:
    """Return a hyperparameter as the toolkit reads it: JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def metric_definitions_of(given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is read out of the log of a job: what it names, and what its algorithm prints."""
    named = list(given["AlgorithmSpecification"].get("MetricDefinitions", ()))
    image = image_of(given["AlgorithmSpecification"]["TrainingImage"])
    if image.kind == "algorithm":
        from loopwright.sagemaker.algorithm import metric_definitions

        # the image reads its own metrics out of a script's log as well
        known = {each["Name"] for each in named}
        own = metric_definitions(image.algorithm)
        named += [each for each in own if each["Name"] not in known]
    return named


def client_environment(desk: Desk, caller: Caller, *, is_isolated: bool = False) -> dict[str, str]:
    """Return what lets clients of AWS inside the job reach this server, if it has a network."""
    inside = {"PYTHONPATH": str(Path(__file__).parent / "inside")}
    if is_isolated:
        return {"AWS_REGION": caller.region, "AWS_DEFAULT_REGION": caller.region, **inside}
    key, secret = desk.job_key
    return {
        **inside,
        "AWS_ENDPOINT_URL": desk.url,
        "S3_ENDPOINT_URL": desk.url,
        "AWS_REGION": caller.region,
        "AWS_DEFAULT_REGION": caller.region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": desk.url,
    }
