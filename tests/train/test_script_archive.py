from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from loopwright.train.script_archive import pack_folder


def a_model(folder: Path) -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "code" / "inference.py").write_text("pass\n")
    (folder / "code" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "code" / "run.sh").chmod(0o755)
    return folder


def test_the_same_files_make_the_same_bytes_whenever_and_wherever_they_lie(tmp_path: Path) -> None:
    first, second = a_model(tmp_path / "a"), a_model(tmp_path / "b" / "c")
    os.utime(second / "weights.bin", (1, 1))
    (second / "weights.bin").chmod(0o600)

    packed = [pack_folder(each, tmp_path / f"{n}.tar.gz") for n, each in enumerate((first, second))]

    assert packed[0] == packed[1]
    assert (tmp_path / "0.tar.gz").read_bytes() == (tmp_path / "1.tar.gz").read_bytes()
    assert (packed[0].n_files, packed[0].left_out) == (3, ())
    with tarfile.open(tmp_path / "0.tar.gz") as archive:
        modes = {member.name: member.mode for member in archive if member.isfile()}
    assert modes == {"code/inference.py": 0o644, "code/run.sh": 0o755, "weights.bin": 0o644}


def test_nothing_from_outside_the_folder_is_packed(tmp_path: Path) -> None:
    folder = a_model(tmp_path / "model")
    (tmp_path / "secret").write_text("secret")
    (folder / "latest.bin").symlink_to("weights.bin")
    (folder / "stolen").symlink_to(tmp_path / "secret")
    (folder / "gone").symlink_to("nowhere")
    (folder / "round").symlink_to("about")
    (folder / "about").symlink_to("round")
    os.mkfifo(folder / "pipe")

    packed = pack_folder(folder, tmp_path / "model.tar.gz")

    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        names = archive.getnames()
        assert all(member.isfile() or member.isdir() for member in archive)
    assert names == ["code", "latest.bin", "weights.bin", "code/inference.py", "code/run.sh"]
    assert packed.left_out == (
        "about: a link to no file",
        "gone: a link to no file",
        "pipe: neither a file nor a folder",
        "round: a link to no file",
        "stolen: a link that leads out of the folder",
    )


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    a_model(tmp_path / "other")
    (tmp_path / "model").symlink_to(tmp_path / "other", target_is_directory=True)

    packed = pack_folder(tmp_path / "model", tmp_path / "model.tar.gz")

    assert (packed.n_files, packed.left_out) == (0, ("model: a link in place of the folder",))


def test_an_empty_folder_makes_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    assert pack_folder(tmp_path / "model", tmp_path / "model.tar.gz").n_files == 0
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.getnames() == []


def test_what_cannot_be_packed_leaves_no_half_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_model(tmp_path / "model")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        pack_folder(folder, tmp_path / "model.tar.gz")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
