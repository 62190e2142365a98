"""Hosts of a job: their names, addresses, and what each is told."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from loopwright.train.script_archive import pack_folder
from loopwright.train.script_contract import ScriptOrder, config_files, contract_variables
from loopwright.train.script_host import Host, address_of, host_folder, host_folders, host_name


def order(n: int = 2, **changes: object) -> ScriptOrder:
    hosts = tuple(
        Host(name=host_name(number), instance="ml.g5.xlarge", gpus=1, cpus=number)
        for number in range(1, n + 1)
    )
    return ScriptOrder(
        name="job",
        entry_point="train.py",
        python="python",
        environments="/e",
        gpus=n,
        hosts=hosts,
        **changes,  # type: ignore[arg-type]
    )


def test_each_host_is_told_who_it_is_and_where_the_first_one_waits() -> None:
    first, second = order().of_hosts()

    found = contract_variables(second)

    assert found["SM_CURRENT_HOST"] == found["CURRENT_HOST"] == "algo-2"
    assert json.loads(found["SM_HOSTS"]) == ["algo-1", "algo-2"]
    assert (found["SM_HOST_COUNT"], found["SM_CURRENT_HOST_RANK"]) == ("2", "1")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("algo-1", "7777")
    assert found["SM_NETWORK_INTERFACE_NAME"] == "lo"
    assert json.loads(found["SM_TRAINING_ENV"])["is_master"] is False
    assert json.loads(contract_variables(first)["SM_TRAINING_ENV"])["is_master"] is True
    about = json.loads(config_files(second)["resourceconfig.json"])
    assert (about["current_host"], about["hosts"]) == ("algo-2", ["algo-1", "algo-2"])


def test_ranks_are_those_that_the_toolkit_counts_beyond_nine_hosts() -> None:
    tenth = order(10).of_hosts()[9]

    assert contract_variables(tenth)["SM_CURRENT_HOST_RANK"] == "1"


def test_a_host_has_its_own_channels_cpus_and_part_of_the_gpus() -> None:
    given = order(channels={"all": "/a"})
    first, second = given.hosts
    split = given._replace(hosts=(first, second._replace(channels={"mine": "/m"})))

    one, two = ScriptOrder.from_json(json.loads(json.dumps(split.to_json()))).of_hosts()

    assert dict(one.channels) == {"all": "/a"}
    assert dict(two.channels) == {"all": "/a", "mine": "/m"}
    assert [(each.cpus, each.gpus, each.first_gpu) for each in (one, two)] == [(1, 1, 0), (2, 1, 1)]


def test_a_job_of_one_host_is_told_what_it_always_was() -> None:
    (alone,) = order(0).of_hosts()

    found = contract_variables(alone)

    assert found["SM_HOSTS"] == '["algo-1"]'
    assert found["SM_NETWORK_INTERFACE_NAME"] == "eth0"
    assert "MASTER_ADDR" not in found


def test_two_hosts_of_a_job_can_listen_on_one_port() -> None:
    addresses = [address_of("job-1", number) for number in (1, 2)]

    with socket.create_server((addresses[0], 0)) as first:
        port = first.getsockname()[1]
        with (
            socket.create_server((addresses[1], port)),
            socket.create_connection((addresses[1], port)) as told,
        ):
            assert told.getpeername() == (addresses[1], port)

    assert address_of("job-2", 1) not in addresses


def test_the_folders_of_hosts_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2):
        host_folder(tmp_path, host_name(number)).mkdir(parents=True)

    assert [each.name for each in host_folders(tmp_path)[1:]] == ["algo-2", "algo-10"]
    assert host_folder(tmp_path, "algo-1") == host_folders(tmp_path)[0] == tmp_path


def test_files_of_hosts_become_one_archive_and_the_first_host_wins(tmp_path: Path) -> None:
    import tarfile

    files = {"a/own": "1", "a/sub/same": "1", "a/clash": "1", "b/own2": "2", "b/sub/same": "2"}
    files |= {"b/sub/more": "2", "b/clash/inner": "2"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    packed = pack_folder(tmp_path / "a", tmp_path / "m.tar.gz", others=[tmp_path / "b"])

    with tarfile.open(tmp_path / "m.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_text()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {"own": "1", "own2": "2", "sub/same": "1", "sub/more": "2", "clash": "1"}
    assert packed.left_out == (
        "clash/inner: another host has a file of this name",
        "sub/same: another host has a file of this name",
    )
