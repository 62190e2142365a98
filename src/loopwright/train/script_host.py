"""The hosts of a job: processes side by side on one machine, each with its own `/opt/ml` and address.

Standard library only, since the process that starts the script imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

HOST = "algo-1"
"""The first host of a job, and the only one of most."""

GROUP = "homogeneousCluster"
MASTER_PORT = 7777
_OTHERS = "others"


class Host(NamedTuple):
    """One host of a job of several.

    Parameters
    ----------
    name
        `algo-1`, `algo-2`, ...; what the others find it by.
    instance, group
        What the script is told it runs on, and which instance group that belongs to.
    cpus, gpus
        What the script is told it may use.
    channels
        Where the data of the channels lies that this host sees otherwise than the others, or alone.
    folders
        Folders that this host sees below `/opt/ml`, by their path there.
    pipes
        Plans of the channels that are streamed to this host; see `script_pipe`.
    """

    name: str
    instance: str
    group: str = GROUP
    cpus: int = 1
    gpus: int = 0
    channels: Mapping[str, str] = MappingProxyType({})
    folders: Mapping[str, str] = MappingProxyType({})
    pipes: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def to_json(self) -> dict[str, Any]:
        """Return the host as JSON types."""
        values = self._asdict().items()
        return {name: dict(each) if isinstance(each, Mapping) else each for name, each in values}


def host_name(number: int) -> str:
    """Return the name of a host by its number, from 1."""
    return f"algo-{number}"


def host_folder(folder: Path, name: str) -> Path:
    """Return where a host of the job in a folder has its `ml`: the first in the folder itself."""
    return folder if name == HOST else folder / _OTHERS / name


def host_folders(folder: Path) -> list[Path]:
    """Return where the hosts of the job in a folder have their `ml`, the first one's first."""
    others = folder / _OTHERS
    found = others.iterdir() if others.is_dir() else ()
    return [folder, *sorted(found, key=lambda each: (len(each.name), each.name))]


def log_name(name: str) -> str:
    """Return the file of `out/` with what a host beside the first has printed."""
    return f"{name}.log"


def address_of(job: str, number: int) -> str:
    """Return the address of a host by its number from 1; jobs that run at once have others.

    The loopback of Linux has all of 127.0.0.0/8, so that two hosts can listen on one port.
    """
    digest = hashlib.sha256(job.encode()).digest()
    return f"127.{64 + digest[0] % 64}.{digest[1]}.{number}"


def resource_config(hosts: Sequence[Host], name: str) -> dict[str, Any]:
    """Return `resourceconfig.json` as the host of a name finds it."""
    own = next(each for each in hosts if each.name == name)
    groups: dict[str, dict[str, Any]] = {}
    for each in hosts:
        about = {"instance_group_name": each.group, "instance_type": each.instance, "hosts": []}
        groups.setdefault(each.group, about)["hosts"].append(each.name)
    return {
        "current_host": own.name,
        "current_instance_type": own.instance,
        "current_group_name": own.group,
        "hosts": [each.name for each in hosts],
        "instance_groups": list(groups.values()),
        "network_interface_name": "eth0" if len(hosts) == 1 else "lo",
    }


def group_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the instance group of the host whose `resourceconfig.json` this is."""
    groups: Sequence[Mapping[str, Any]] = config["instance_groups"]
    return next(
        each for each in groups if each["instance_group_name"] == config["current_group_name"]
    )
