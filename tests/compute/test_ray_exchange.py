"""What a submitter and a node hand each other arrives whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.compute.ray_exchange import RayExchange
from loopwright.core.errors import BackendError, InvalidInputError


@pytest.fixture
def exchange(tmp_path: Path) -> RayExchange:
    return RayExchange(tmp_path / "artifacts", tmp_path / "cache")


@pytest.fixture(params=["folder", "object store"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> RayExchange:
    """Return an exchange over a folder, and one over an object store."""
    place = tmp_path / "artifacts" if request.param == "folder" else "memory://"
    return RayExchange(place, tmp_path / "cache")


def tree(folder: Path) -> Path:
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "table.csv").write_text("a,b")
    (folder / "in" / "deep" / "run.sh").write_text("true")
    (folder / "in" / "deep" / "run.sh").chmod(0o755)
    return folder / "in"


def test_files_arrive_with_their_names_bytes_and_modes(either: RayExchange, tmp_path: Path) -> None:
    files = either.put_tree("job", "in", tree(tmp_path))

    either.get_tree("job", "in", files, tmp_path / "there")

    assert (tmp_path / "there" / "table.csv").read_text() == "a,b"
    assert (tmp_path / "there" / "deep" / "run.sh").stat().st_mode & 0o777 == 0o755


def test_an_artifact_is_not_sent_and_not_copied(exchange: RayExchange, tmp_path: Path) -> None:
    digest = exchange.artifacts.put_bytes(b"rows")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "train.parquet").hardlink_to(exchange.artifacts.local_path(digest))

    files = exchange.put_tree("job", "in", folder)
    exchange.get_tree("job", "in", files, tmp_path / "there")

    assert exchange.list_("job", "in") == []
    kept = exchange.artifacts.local_path(digest)
    assert (tmp_path / "there" / "train.parquet").samefile(kept)


def test_what_was_damaged_on_its_way_does_not_arrive(either: RayExchange, tmp_path: Path) -> None:
    files = either.put_tree("job", "in", tree(tmp_path))
    either.put_bytes("job", "in/table.csv", b"a,c")

    with pytest.raises(BackendError, match="damaged on its way"):
        either.get_tree("job", "in", files, tmp_path / "there")

    assert not (tmp_path / "there" / "table.csv").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_a_file_that_would_land_elsewhere_is_refused(
    exchange: RayExchange, tmp_path: Path, name: str
) -> None:
    about = {"digest": "sha256:" + "0" * 64, "mode": 0o644, "is_artifact": True}

    with pytest.raises(InvalidInputError, match="must lie inside"):
        exchange.get_tree("job", "in", {name: about}, tmp_path / "there")


def test_a_link_to_outside_is_not_sent(exchange: RayExchange, tmp_path: Path) -> None:
    folder = tree(tmp_path)
    (tmp_path / "secret").write_text("hush")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inside").symlink_to("table.csv")

    files = exchange.put_tree("job", "in", folder)

    assert set(files) == {"table.csv", "deep/run.sh", "inside"}


def test_nobody_else_may_read_what_a_job_is_given(exchange: RayExchange, tmp_path: Path) -> None:
    exchange.put("job/1", "env.json", {"TOKEN": "hush"})

    folder = tmp_path / "artifacts" / "runs" / "job" / "1"
    assert folder.stat().st_mode & 0o077 == 0
    assert exchange.find("job/1", "env.json") == {"TOKEN": "hush"}


def test_the_pieces_of_a_log_are_listed_in_order(either: RayExchange) -> None:
    for n in (1, 0, 10):
        either.put_bytes("job/1", f"log/{n:06d}", b"x")

    assert either.list_("job/1", "log") == ["log/000000", "log/000001", "log/000010"]
    assert either.list_("job/2", "log") == []
    assert either.find("job/1", "order.json") is None
    either.delete("job/1", "order.json")


def test_all_of_a_job_is_removed_and_nothing_of_another(
    either: RayExchange, tmp_path: Path
) -> None:
    either.put("job/1", "exit.json", {})
    either.put_bytes("job/1", "log/000000", b"x")
    either.put("job2/1", "exit.json", {})

    either.delete_all("job")

    assert either.find("job/1", "exit.json") is None
    assert either.list_("job/1", "log") == []
    assert either.find("job2/1", "exit.json") == {}


def test_a_place_with_a_password_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="credentials of their own") as caught:
        RayExchange("s3://key:hush@bucket/jobs", tmp_path)

    assert "hush" not in str(caught.value)
