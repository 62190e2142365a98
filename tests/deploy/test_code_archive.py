"""Archives of a user's own code: plain files go in, nothing leaves the folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.code_archive import archive_names, unpack_archive


def packed(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for each in members:
            if isinstance(each, tuple):
                info = tarfile.TarInfo(each[0])
                info.size = len(each[1])
                out.addfile(info, io.BytesIO(each[1]))
            else:
                out.addfile(each)
    return path


def odd(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_plain_files_are_written_without_special_bits(tmp_path: Path) -> None:
    tool = tarfile.TarInfo("code/tool")
    tool.mode = 0o6777
    folder = odd("./", tarfile.DIRTYPE)
    path = packed(tmp_path / "a.tar.gz", folder, ("./code/inference.py", b"x = 1"), tool)

    unpack_archive(path, tmp_path / "out", most_bytes=1 << 20)

    assert archive_names(path) == ["code/inference.py", "code/tool"]
    assert (tmp_path / "out/code/inference.py").read_bytes() == b"x = 1"
    assert (tmp_path / "out/code/tool").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b""),
        ("code/../../evil", b""),
        ("/etc/evil", b""),
        ("code\\evil", b""),
        ("code/\nevil", b""),
        ("code//evil", b""),
        ("x" * 300, b""),
        odd("code/link", tarfile.SYMTYPE, "/etc/passwd"),
        odd("code/hard", tarfile.LNKTYPE, "code/inference.py"),
        odd("code/pipe", tarfile.FIFOTYPE),
        odd("code/device", tarfile.CHRTYPE),
        ("code/inference.py", b"twice"),
        ("code/inference.py/below", b"a file is no folder"),
        ("big", bytes(2 << 20)),
    ],
)
def test_what_could_leave_the_folder_is_refused_and_nothing_stays(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]
) -> None:
    path = packed(tmp_path / "a.tar.gz", ("code/inference.py", b""), member)

    with pytest.raises(InvalidInputError):
        unpack_archive(path, tmp_path / "out", most_bytes=1 << 20)

    assert [each.name for each in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_torn_archive_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar.gz", ("code/inference.py", bytes(range(256)) * 40))
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(InvalidInputError, match="torn"):
        unpack_archive(path, tmp_path / "out", most_bytes=1 << 20)
