"""A processing job as compute runs it, made of the request of a client."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from loopwright.compute import JobSpec, Limits, Resources
from loopwright.sagemaker import processing_start
from loopwright.sagemaker.clarify.layout import CONFIG_INPUT, DATA_INPUT, FOLDER, REPOSITORY
from loopwright.sagemaker.cluster import hosts_of, parts, resources_for
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.image import image_of
from loopwright.sagemaker.image_packages import image_packages
from loopwright.sagemaker.processing_worker import REQUEST_FILE
from loopwright.sagemaker.s3.index import Entry
from loopwright.sagemaker.staging import channel_entries, refuse_missing_output, stage
from loopwright.sagemaker.training_order import client_environment, job_key, staging_folder
from loopwright.train.script import job_packages
from loopwright.train.script_contract import BASE, ORDER_FILE, ScriptOrder, installer_environment
from loopwright.train.script_host import HOST, Host

KIND = "sagemaker-processing"
GRACE_S = 120.0
_LONGEST_S = 86_400
_REQUIREMENTS = "requirements.txt"
_CODE_ARCHIVE = "sourcedir.tar.gz"
_LARGEST_REQUIREMENTS = 1 << 20
_ROOT = PurePosixPath(BASE, "processing")
_OWN = ("python3", "-P", "-m")
_PROGRAMS = {
    "sagemaker-model-monitor-analyzer": (*_OWN, "loopwright.sagemaker.monitoring.analyzer"),
    REPOSITORY: (*_OWN, "loopwright.sagemaker.clarify.program"),
}
"""What runs in place of an image that brings its own entry point."""
_NOT_YET = ("sagemaker-spark", "sagemaker-data-wrangler")


def checked_processing(desk: Desk, given: Mapping[str, Any]) -> str:
    """Check all of a request that can be checked before anything is written.

    Returns in words what the job gets less than it asked for.

    Raises
    ------
    ApiError
        If the job cannot be run here.
    """
    _, note = _resources(desk, given)
    refuse_unknown_program(given["AppSpecification"])
    inputs, outputs = given.get("ProcessingInputs", ()), _outputs(given)
    for kind, names in (
        ("input", [each["InputName"] for each in inputs]),
        ("output", [each["OutputName"] for each in outputs]),
    ):
        if len(set(names)) < len(names):
            raise validation(f"Processing {kind} names must be unique within a processing job.")
    for each in inputs:
        _place(_s3_input(each).get("LocalPath"), each["InputName"])
        _entries(desk, each)
    for each in outputs:
        target = each.get("S3Output")
        if target is None:
            raise validation("Outputs to a feature group are not supported yet by loopwright.")
        refuse_missing_output(desk, target["S3Uri"])
        _place(target.get("LocalPath"), each["OutputName"])
    return note


def _outputs(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(given.get("ProcessingOutputConfig", {}).get("Outputs", ()))


def _s3_input(each: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = each.get("S3Input")
    if found is None:
        raise validation(
            f"The input {each['InputName']} has no S3Input; dataset definitions are not supported "
            "yet by loopwright."
        )
    if found.get("S3InputMode", "File") != "File":
        raise validation(f"The input mode {found['S3InputMode']} is not supported; use File.")
    if found.get("S3CompressionType", "None") != "None":
        raise validation("S3CompressionType Gzip can be used with the input mode Pipe only.")
    return found


def _entries(desk: Desk, each: Mapping[str, Any]) -> list[tuple[str, str, Entry]]:
    source = _s3_input(each)
    about = {"S3DataType": source["S3DataType"], "S3Uri": source["S3Uri"]}
    return channel_entries(desk, {"DataSource": {"S3DataSource": about}})


def _place(path: str | None, name: str) -> PurePosixPath:
    """Return a path below `/opt/ml` of what a request puts below `/opt/ml/processing`."""
    found = PurePosixPath(path or "")
    if ".." in found.parts or "\0" in str(found) or not found.is_relative_to(_ROOT):
        raise validation(
            f"Invalid LocalPath {str(path)!r} of {name}: it must be an absolute path that begins "
            f"with {_ROOT}/."
        )
    return found.relative_to(BASE)


def output_places(given: Mapping[str, Any]) -> dict[str, PurePosixPath]:
    """Return where each output of a request lies below `/opt/ml`, by its name."""
    return {
        each["OutputName"]: _place(each["S3Output"].get("LocalPath"), each["OutputName"])
        for each in _outputs(given)
    }


def refuse_unknown_program(about: Mapping[str, Any]) -> None:
    """Refuse an application that is an image whose own entry point would run."""
    _program(about)


def _program(about: Mapping[str, Any]) -> tuple[str, ...]:
    repository = image_of(about["ImageUri"]).repository
    entry = tuple(about.get("ContainerEntrypoint", ()))
    if repository.startswith(_NOT_YET):
        raise validation(
            f"The image {repository!r} is not supported yet by loopwright: there are data quality and "
            "model quality (sagemaker-model-monitor-analyzer), bias and explainability "
            f"({REPOSITORY}), scripts and entry points."
        )
    if not entry and repository not in _PROGRAMS:
        raise validation(
            f"The image {repository!r} cannot be pulled: loopwright runs scripts and entry points, "
            "not images. Give a ContainerEntrypoint."
        )
    return (*(entry or _PROGRAMS[repository]), *about.get("ContainerArguments", ()))


def is_clarify(about: Mapping[str, Any]) -> bool:
    """Tell whether an application is the image of Clarify, and no other program in it."""
    own = image_of(about["ImageUri"]).repository == REPOSITORY
    return own and not about.get("ContainerEntrypoint")


def _prepared(desk: Desk, caller: Caller, given: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Put what a job of Clarify needs beside its inputs; return variables for its process."""
    # it knows models and endpoints, which know what runs jobs
    from loopwright.sagemaker.clarify.order import prepare_clarify

    inputs = {
        each["InputName"]: _place(_s3_input(each)["LocalPath"], each["InputName"])
        for each in given.get("ProcessingInputs", ())
    }
    if CONFIG_INPUT not in inputs:
        raise validation(f"A job of Clarify needs an input with the name {CONFIG_INPUT}.")
    place = root / inputs[CONFIG_INPUT]
    return prepare_clarify(desk, caller, root, place, dataset=DATA_INPUT in inputs)


def _cluster(given: Mapping[str, Any]) -> Mapping[str, Any]:
    asked: Mapping[str, Any] = given["ProcessingResources"]["ClusterConfig"]
    if "InstanceType" not in asked:
        asked = {**asked, **asked.get("InstancePreferences", [{}])[0]}
    if "InstanceType" not in asked:
        raise validation("ClusterConfig needs an InstanceType or InstancePreferences.")
    return asked


def _resources(desk: Desk, given: Mapping[str, Any]) -> tuple[Resources, str]:
    capacity = desk.workspace.compute.capacity()
    return resources_for(_cluster(given), capacity, usage="processing job")


def _hosts(given: Mapping[str, Any], resources: Resources) -> list[Host]:
    """Return the hosts that the job has here; a program of ours runs as one."""
    hosts = hosts_of(_cluster(given), resources)
    return hosts if given["AppSpecification"].get("ContainerEntrypoint") else hosts[:1]


def processing_spec(
    desk: Desk, caller: Caller, given: Mapping[str, Any], *, arn: str, request: Mapping[str, Any]
) -> JobSpec:
    """Return the job of a request whose data has been put into its staging folder.

    Parameters
    ----------
    request
        The same as JSON types, for `processingjobconfig.json`.
    """
    folder = staging_folder(desk, arn)
    shutil.rmtree(folder, ignore_errors=True)
    resources, _ = _resources(desk, given)
    hosts = _hosts(given, resources)
    roots, places = _staged(desk, given, folder, hosts)
    own: dict[str, str] = {}
    if is_clarify(given["AppSpecification"]):
        own = _prepared(desk, caller, given, roots[HOST])
        places = [*places, PurePosixPath(FOLDER)]
    outputs = sorted(set(output_places(given).values()))
    seen = {each.name: _shown(places, outputs, roots[each.name]) for each in hosts}
    is_isolated = bool(given.get("NetworkConfig", {}).get("EnableNetworkIsolation"))
    limit = given.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _LONGEST_S)
    environment = {
        **client_environment(desk, caller, is_isolated=is_isolated),
        **own,
        **given.get("Environment", {}),
    }
    order = ScriptOrder(
        name=given["ProcessingJobName"],
        entry_point="process",
        cpus=math.ceil(resources.cpus),
        gpus=resources.gpus,
        python=sys.executable,
        packages=job_packages(),
        # what a client runs may install more, and never into our environment
        requirements=_REQUIREMENTS
        if given["AppSpecification"].get("ContainerEntrypoint")
        else None,
        framework=image_packages(given["AppSpecification"]["ImageUri"]),
        environments=str(desk.workspace.home / "environments"),
        time_limit_s=float(limit),
        grace_s=GRACE_S,
        variables=tuple(sorted(environment)),
        command=_program(given["AppSpecification"]),
        arn=arn,
        folders=seen[HOST][0] if len(hosts) == 1 else {},
        contract="processing",
        instance=hosts[0].instance,
        hosts=tuple(each._replace(folders=seen[each.name][0]) for each in hosts)
        if len(hosts) > 1
        else (),
        is_isolated=is_isolated,
    )
    layout = {
        "folders": [str(each) for each in outputs],
        "copies": {name: copies for name, (_, copies) in seen.items()},
        "request": {
            "ProcessingJobArn": arn,
            **{name: value for name, value in request.items() if name != "Tags"},
        },
    }
    return JobSpec(
        key=job_key(arn),
        name=given["ProcessingJobName"],
        kind=KIND,
        command=(sys.executable, "-I", "-S", str(processing_start.__file__)),
        files={
            ORDER_FILE: json.dumps(order.to_json(), indent=1).encode(),
            REQUEST_FILE: json.dumps(layout).encode(),
            _REQUIREMENTS: _requirements(roots[HOST]),
        },
        # where packages come from; the script itself does not see it
        env={**installer_environment(), **environment},
        resources=resources,
        time_limit_s=limit + 2 * GRACE_S,
        labels={"arn": arn},
        limits=Limits(),
    )


def _staged(
    desk: Desk, given: Mapping[str, Any], folder: Path, hosts: list[Host]
) -> tuple[dict[str, Path], list[PurePosixPath]]:
    """Put the inputs below a folder for each host; return these, and the outermost places.

    What several hosts see alike lies there for each of them: links take no room.
    """
    roots = {each.name: folder if len(hosts) == 1 else folder / each.name for each in hosts}
    places = []
    for each in given.get("ProcessingInputs", ()):
        place = _place(_s3_input(each)["LocalPath"], each["InputName"])
        entries = _entries(desk, each)
        divided = parts(entries, _s3_input(each), hosts, seed=None)
        for name, root in roots.items():
            stage(desk, entries if divided is None else divided[name], root / place)
        places.append(place)
    return roots, _outermost(places)


def _outermost(places: list[PurePosixPath]) -> list[PurePosixPath]:
    """Return the places that lie in no other."""
    found: list[PurePosixPath] = []
    for place in sorted(set(places)):
        if not any(place.is_relative_to(each) for each in found):
            found.append(place)
    return found


def _shown(
    inputs: list[PurePosixPath], outputs: list[PurePosixPath], folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the folders that the job sees, and those that it gets a copy of.

    What is shown are links to objects, which must not change; an input in which an output lies
    is copied, since what the job writes there is wanted.
    """
    shown: dict[str, str] = {}
    copied: dict[str, str] = {}
    for place in inputs:
        meets = any(each.is_relative_to(place) or place.is_relative_to(each) for each in outputs)
        (copied if meets else shown)[str(place)] = str(folder / place)
    return shown, copied


def _requirements(folder: Path) -> bytes:
    """Return the requirements that lie beside the code or in its archive, empty where there are none.

    The job has an environment of its own either way, so that what it installs never lands in ours;
    what is installed before it starts is kept for the next one.
    """
    for archive in sorted(folder.rglob(_CODE_ARCHIVE)):
        try:
            with tarfile.open(archive, "r:*") as packed:
                content = packed.extractfile(_REQUIREMENTS)
                return content.read(_LARGEST_REQUIREMENTS) if content else b""
        except (tarfile.TarError, OSError, KeyError, EOFError):
            # the job itself says what is wrong with it
            continue
    for path in sorted(folder.rglob(f"code/{_REQUIREMENTS}")):
        return path.read_bytes()[:_LARGEST_REQUIREMENTS]
    return b""
