"""Archives come back as they were; hostile ones are refused and write nothing."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.train.archive import ArchiveLimits, open_archive, pack_archive

SMALL = ArchiveLimits(packed_bytes=100_000, total_bytes=200_000, member_bytes=60_000, members=20)


def archive(*members: tuple[str, bytes], **changes: Any) -> bytes:
    """Return a .tar.gz of plain files, each header changed as asked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sparse() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("a.json")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["a.json", "b/c.npz", "model/m.ubj"]), st.binary()))
def test_files_come_back_as_they_were(members: dict[str, bytes]) -> None:
    assert open_archive(pack_archive(members)) == members


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    assert pack_archive({"a.json": b"1", "b.json": b"2"}) == pack_archive(
        {"b.json": b"2", "a.json": b"1"}
    )


def test_nothing_about_the_packer_is_in_the_archive() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack_archive({"a.json": b"1"}))) as file:
        (info,) = file.getmembers()

    assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
    assert info.mode == 0o644


def test_folders_are_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        folder = tarfile.TarInfo("model")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)

    assert open_archive(buffer.getvalue()) == {}


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no gzip": b"hello",
    "no tar": gzip.compress(b"hello" * 1000),
    "cut off": pack_archive({"a.json": bytes(range(256)) * 100})[:-60],
    "broken in the middle": (lambda d: d[:40] + b"\xff\xff" + d[42:])(
        pack_archive({"a.json": bytes(range(256)) * 100})
    ),
    "a folder above": archive(("../a.json", b"x")),
    "a folder above, inside": archive(("model/../../a.json", b"x")),
    "a folder above, Windows": archive(("..\\a.json", b"x")),
    "the root": archive(("/etc/a.json", b"x")),
    "two roots": archive(("//proc/self/root/a.json", b"x")),
    "a drive": archive(("C:/a.json", b"x")),
    "the folder itself": archive(("./a.json", b"x")),
    "an escaped name": archive(("%2e%2e%2fa.json", b"x")),
    "a name with a line break": archive(("a\n.json", b"x")),
    "a name that turns round": archive(("a\u202e.json", b"x")),
    "a hidden name": archive((".a.json", b"x")),
    "a long name": archive(("a" * 4_000 + ".json", b"x")),
    "an empty part": archive(("model//a.json", b"x")),
    "a symbolic link": archive(("a.json", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": archive(("a.json", b""), type=tarfile.LNKTYPE, linkname="../b"),
    "a device": archive(("a.json", b""), type=tarfile.CHRTYPE),
    "a pipe": archive(("a.json", b""), type=tarfile.FIFOTYPE),
    "a sparse file": sparse(),
    "the same name twice": archive(("a.json", b"1"), ("a.json", b"2")),
    "names that differ in case": archive(("a.json", b"1"), ("A.json", b"2")),
    "a pickle": archive(("model.pkl", b"cos\nsystem\n(S'true'\ntR.")),
    "a joblib file": archive(("model/model.joblib", b"x")),
    "code": archive(("code/inference.py", b"x")),
    "a file without an ending": archive(("model", b"x")),
    "a member too large": archive(("a.json", bytes(60_001))),
    "too much in all": archive(*((f"a{i}.json", bytes(50_000)) for i in range(5))),
    "too many members": archive(*((f"a{i}.json", b"") for i in range(21))),
    "a bomb of folders": archive(*((f"f{i}", b"") for i in range(1_000)), type=tarfile.DIRTYPE),
    "a bomb of headers": archive(("a.json", b"x"), pax_headers={"comment": "x" * 500_000}),
    "an archive too large": b"x" * 100_001,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused(case: str) -> None:
    with pytest.raises(InvalidInputError, match="model archive cannot be trusted"):
        open_archive(HOSTILE[case], limits=SMALL)


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a.pkl", "a b.json", ""])
def test_names_that_could_not_be_opened_are_not_packed(name: str) -> None:
    with pytest.raises(InvalidInputError):
        pack_archive({name: b"x"})
