"""What a job may ask for, what a machine has, and the refusal of what can never be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loopwright.compute import Capacity, Resources, machine_capacity, resource
from loopwright.compute.resource import refuse_impossible
from loopwright.core.errors import InvalidInputError

LAPTOP = Capacity(cpus=8, memory_mib=16_384, gpu_ids=("0",))


@pytest.mark.parametrize(
    ("resources", "said", "field"),
    [
        (Resources(cpus=96), "asks for 96 CPUs; this machine has 8 CPUs", "resources.cpus"),
        (Resources(memory="1 TiB"), "asks for 1,048,576 MiB of memory;", "resources.memory"),
        (Resources(gpus=4), "asks for 4 GPUs; this machine has 1 GPUs", "resources.gpus"),
        (
            Resources(cpus=96, gpus=4),
            "asks for 96 CPUs and 4 GPUs; this machine has 8 CPUs and 1 GPUs",
            "resources.cpus",
        ),
    ],
)
def test_the_impossible_is_refused_with_what_was_asked_and_what_there_is(
    resources: Resources, said: str, field: str
) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        refuse_impossible(resources, LAPTOP)

    assert caught.value.facts["field"] == field


def test_all_that_the_machine_has_may_be_asked_for() -> None:
    refuse_impossible(Resources(cpus=8, memory="16 GiB", gpus=1), LAPTOP)


def test_a_cluster_runs_at_once_what_fits_on_each_of_its_nodes() -> None:
    nodes = (Capacity(cpus=1, memory_mib=9000), Capacity(cpus=5, memory_mib=4096))
    cluster = Capacity(cpus=5, memory_mib=9000, nodes=nodes)

    assert LAPTOP.at_once(Resources(cpus=3, memory="1 GiB")) == 2
    assert LAPTOP.at_once(Resources(cpus=0.1, memory="1 GiB")) == 16
    assert LAPTOP.at_once(Resources(cpus=0.1, memory="1 GiB", gpus=1)) == 1
    assert Capacity(cpus=0.9, memory_mib=9000).at_once(Resources(cpus=0.3, memory="1 MiB")) == 3
    assert cluster.at_once(Resources(cpus=1, memory="2 GiB")) == 3
    assert cluster.at_once(Resources(cpus=6, memory="1 GiB")) == 0


@pytest.mark.parametrize("cpus", [0, -1, float("nan"), float("inf")])
def test_cpus_must_be_a_number_above_0(cpus: float) -> None:
    with pytest.raises(InvalidInputError, match="cpus is"):
        Resources(cpus=cpus)


def test_gpus_and_memory_must_be_amounts() -> None:
    with pytest.raises(InvalidInputError, match="gpus is -1"):
        Resources(gpus=-1)
    with pytest.raises(InvalidInputError, match="memory is 'lots'"):
        Resources(memory="lots")


def test_resources_come_from_a_loop_file() -> None:
    resources = msgspec.convert({"cpus": 2, "memory": "4 GiB"}, Resources)

    assert (resources.cpus, resources.memory_mib, resources.gpus) == (2.0, 4096, 0)
    with pytest.raises(msgspec.ValidationError, match="cores"):
        msgspec.convert({"cores": 2}, Resources)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.cpus"):
        msgspec.convert({"cpus": 0}, Resources)


def test_this_machine_has_something_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 3")

    capacity = machine_capacity()

    assert capacity.cpus > 0
    assert capacity.memory_mib > 100
    assert capacity.gpu_ids == ("GPU-a", "3")


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "50000 100000", "memory.max": "104857600"},
        {
            "cpu/cpu.cfs_quota_us": "50000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "104857600",
        },
    ],
)
def test_the_limits_of_a_container_count(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(resource, "_CGROUP", tmp_path)

    capacity = machine_capacity()

    assert (capacity.cpus, capacity.memory_mib) == (0.5, 100)


def test_a_container_without_limits_has_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "_CGROUP", tmp_path / "nothing")
    without = machine_capacity()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(resource, "_CGROUP", tmp_path)

    assert machine_capacity() == without
