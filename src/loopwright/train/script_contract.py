"""The SageMaker training contract: what a script finds in its environment and under `/opt/ml`.

Standard library only, since the process that starts the script imports it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from loopwright.train.script_host import HOST, MASTER_PORT, Host, group_of, resource_config

ORDER_FILE = "script.json"
CODE_FOLDER = "code"
ML_FOLDER = "ml"
BASE = "/opt/ml"
# what an installer needs of the submitter's environment; addresses in it may hold credentials
INSTALLER_PREFIXES = ("PIP_", "UV_")
INSTALLER_NAMES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_RESERVED = "sagemaker_"
# settings of the toolkit itself; whatever else begins with `sagemaker_` is a framework's
_TOOLKIT = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_region",
        "sagemaker_job_name",
        "sagemaker_container_log_level",
        "sagemaker_s3_output",
    }
)
_LOG_LEVEL = 20
_INSTANCE = "local"


def installer_environment() -> dict[str, str]:
    """Return what an installer needs of the environment of this process."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(INSTALLER_PREFIXES) or name in INSTALLER_NAMES
    }


class ScriptOrder(NamedTuple):
    """What a script job does; `script.json` in its folder.

    A named tuple, since making a dataclass takes longer than the rest of the worker's start.

    Parameters
    ----------
    name
        What the script is told the job is called (`TRAINING_JOB_NAME`).
    entry_point
        The program, relative to the folder of code: `.py`, or anything a shell can start.
    channels
        Where the data of each channel lies: a file or a folder, as an absolute path.
    hyperparameters
        Values of JSON types, by name.
    metrics
        Regular expressions whose first group is a number, by the name of the metric.
    cpus, gpus
        What the script is told it may use.
    python
        The interpreter of a script without requirements.
    packages
        Folders of packages that stay visible beneath a script's own requirements.
    requirements
        File of requirements, relative to the job's folder; None for none.
    framework
        What the image of a framework has, as pip reads it, beside the requirements.
    environments
        The folder, as an absolute path, in which environments are kept from job to job.
    checkpoints
        The folder behind `/opt/ml/checkpoints`; None for the one that compute keeps for the job.
    executables
        Files of code that may be executed.
    time_limit_s, grace_s
        Seconds after which SIGTERM is sent, and from then to SIGKILL.
    variables
        Names of the environment variables that were given with the job; never their values.
    command
        A program and its arguments in place of the entry point, as a container's entrypoint.
    instance
        What the script is told it runs on.
    arn
        What the script is told is the job's ARN; one of this machine when empty.
    texts
        The hyperparameters as a request had them, for `hyperparameters.json`; made of
        `hyperparameters` when absent.
    inputs
        What `inputdataconfig.json` says of a channel beside or in place of its defaults, by channel.
    folders
        Folders that are seen below `/opt/ml` as channels are, by their path there.
    contract
        `training`, or `processing` for a job that is told nothing of training.
    checkpoint_path
        Where the script finds its checkpoints below `/opt/ml`.
    pipes
        Channels that are streamed through named pipes: the plan of each; see `script_pipe`.
    host
        The host that this is for, as the others find it.
    hosts
        All hosts of a job that has several; none for one.
    first_gpu
        How many of the job's GPUs belong to the hosts before this one.
    is_isolated
        Whether the script sees no network but that between the hosts of its job.
    """

    name: str
    entry_point: str
    python: str
    environments: str
    checkpoints: str | None = None
    channels: Mapping[str, str] = MappingProxyType({})
    hyperparameters: Mapping[str, Any] = MappingProxyType({})
    metrics: Mapping[str, str] = MappingProxyType({})
    cpus: int = 1
    gpus: int = 0
    packages: tuple[str, ...] = ()
    requirements: str | None = None
    framework: tuple[str, ...] = ()
    executables: tuple[str, ...] = ()
    time_limit_s: float | None = None
    grace_s: float = 30.0
    variables: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    instance: str = _INSTANCE
    arn: str = ""
    texts: Mapping[str, str] | None = None
    inputs: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    folders: Mapping[str, str] = MappingProxyType({})
    contract: str = "training"
    checkpoint_path: str = "checkpoints"
    pipes: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    host: str = HOST
    hosts: tuple[Host, ...] = ()
    first_gpu: int = 0
    is_isolated: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the order as JSON types."""
        values = self._asdict().items()
        plain = {name: dict(each) if isinstance(each, Mapping) else each for name, each in values}
        return {"format": 1, **plain, "hosts": [each.to_json() for each in self.hosts]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScriptOrder:
        """Return the order that `to_json` wrote."""
        values = {name: each for name, each in value.items() if name != "format"}
        for name in ("packages", "framework", "executables", "variables", "command"):
            values[name] = tuple(values.get(name, ()))
        values["hosts"] = tuple(Host(**each) for each in values.get("hosts", ()))
        return cls(**values)

    def of_hosts(self) -> list[ScriptOrder]:
        """Return the order as each host has it; of a job of one host, itself."""
        found: list[ScriptOrder] = []
        first_gpu = 0
        for each in self.hosts:
            own = self._replace(
                host=each.name,
                instance=each.instance,
                cpus=each.cpus,
                gpus=each.gpus,
                first_gpu=first_gpu,
                channels={**self.channels, **each.channels},
                folders={**self.folders, **each.folders},
                pipes={**self.pipes, **each.pipes},
            )
            found.append(own)
            first_gpu += each.gpus
        return found or [self]

    @property
    def resource_config(self) -> dict[str, Any]:
        """What `resourceconfig.json` says."""
        return resource_config(
            self.hosts or (Host(name=self.host, instance=self.instance),), self.host
        )

    @property
    def channel_names(self) -> list[str]:
        """The names of all channels, those that are streamed as well, sorted."""
        return sorted({*self.channels, *self.pipes})

    @property
    def user_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that are the script's own, not the toolkit's."""
        own = self.hyperparameters.items()
        return {name: value for name, value in own if not name.startswith(_RESERVED)}


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return hyperparameters as the command-line arguments of a script, sorted by name.

    A name of one letter gets one dash. A mapping becomes `a=1,b=2`; anything else is written as
    Python's `str` does, and nothing (None) as an empty text: as `sagemaker-training` does it.

    Examples
    --------
    >>> arguments({"n-estimators": 100, "k": 2, "layers": {"b": 1, "a": 2}})
    ['-k', '2', '--layers', 'a=2,b=1', '--n-estimators', '100']
    """
    found = []
    for name in sorted(hyperparameters):
        found += [f"--{name}" if len(name) > 1 else f"-{name}", _argument(hyperparameters[name])]
    return found


def _argument(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={value[name]}" for name in sorted(value))
    return "" if value is None else str(value)


def config_files(order: ScriptOrder) -> dict[str, bytes]:
    """Return the files that a script finds in `input/config`, by name."""
    made = {name: _plain(value) for name, value in order.hyperparameters.items()}
    texts = made if order.texts is None else dict(order.texts)
    return {
        "hyperparameters.json": _json(texts).encode(),
        "inputdataconfig.json": _json(_input_data_config(order)).encode(),
        "resourceconfig.json": _json(order.resource_config).encode(),
    }


def _plain(value: Any) -> str:
    """Return a value as a request to SageMaker would hold it: always text."""
    return value if isinstance(value, str) else _json(value)


def _input_data_config(order: ScriptOrder) -> dict[str, Any]:
    about = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    return {name: {**about, **order.inputs.get(name, {})} for name in order.channel_names}


def contract_variables(order: ScriptOrder, base: str = BASE) -> dict[str, str]:
    """Return the environment variables of the contract.

    Parameters
    ----------
    order
        What the job does.
    base
        Where the script sees `/opt/ml`.
    """
    if order.contract == "processing":
        return {"CURRENT_HOST": order.host, "SAGEMAKER_BASE_DIR": base}
    inputs, output = f"{base}/input", f"{base}/output"
    hyperparameters = order.user_hyperparameters
    args = arguments(hyperparameters)
    channels = {name: f"{inputs}/data/{name}" for name in order.channel_names}
    module = PurePosixPath(order.entry_point)
    resources = order.resource_config
    hosts = sorted(resources["hosts"])
    groups = {each["instance_group_name"]: each for each in resources["instance_groups"]}
    framework = {
        name: value
        for name, value in order.hyperparameters.items()
        if name.startswith(_RESERVED) and name not in _TOOLKIT
    }
    # properties of the toolkit's `Environment`, which are variables of their own as well
    shared: dict[str, Any] = {
        "current_host": order.host,
        "current_instance_group": resources["current_group_name"],
        "current_instance_group_hosts": group_of(resources)["hosts"],
        "current_instance_type": order.instance,
        "distribution_instance_groups": [],
        "framework_module": None,
        "hosts": hosts,
        "input_config_dir": f"{inputs}/config",
        "input_data_config": _input_data_config(order),
        "input_dir": inputs,
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "log_level": _LOG_LEVEL,
        "model_dir": f"{base}/model",
        "module_dir": f"{base}/code",
        "module_name": str(module.with_suffix("")) if module.suffix == ".py" else str(module),
        "network_interface_name": resources["network_interface_name"],
        "num_cpus": order.cpus,
        "num_gpus": order.gpus,
        "num_neurons": 0,
        "output_data_dir": f"{output}/data",
        "output_dir": output,
        "output_intermediate_dir": f"{output}/intermediate",
        "resource_config": resources,
        "user_entry_point": order.entry_point,
    }
    environment = {
        **shared,
        "additional_framework_parameters": framework,
        "channel_input_dirs": channels,
        "hyperparameters": hyperparameters,
        "is_master": order.host == hosts[0],
        "is_modelparallel_enabled": None,
        "job_name": order.name,
        "master_hostname": hosts[0],
    }
    named = {
        **shared,
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
        "channels": order.channel_names,
        "hps": hyperparameters,
        "framework_params": framework,
        "user_args": args,
        "training_env": environment,
        # added by the third generation of the SageMaker SDK
        "source_dir": f"{base}/code",
        "entry_script": order.entry_point,
        "output_failure": f"{output}/failure",
        "host_count": len(hosts),
        "current_host_rank": hosts.index(order.host),
        "master_addr": HOST,
        "master_port": MASTER_PORT,
    }
    return {
        **{f"SM_{name.upper()}": _variable(value) for name, value in named.items()},
        "TRAINING_JOB_NAME": order.name,
        "TRAINING_JOB_ARN": order.arn
        or f"arn:aws:sagemaker:local:000000000000:training-job/{order.name}",
        "CURRENT_HOST": order.host,
        "SAGEMAKER_BASE_DIR": base,
        "SAGEMAKER_JOB_NAME": order.name,
        **(_meeting_variables(resources) if order.hosts else {}),
    }


def _meeting_variables(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return what the containers of PyTorch tell a script of several hosts."""
    interface = resources["network_interface_name"]
    return {
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(MASTER_PORT),
        "NCCL_SOCKET_IFNAME": interface,
        "GLOO_SOCKET_IFNAME": interface,
    }


def _variable(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
