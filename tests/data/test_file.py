from __future__ import annotations

import gzip
import os
from pathlib import Path

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data import FileSource, Source, open_source
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract


def opened(folder: Path, path: str) -> Source:
    return open_source(FileSource(path=path), folder)


def rows(folder: Path, path: str) -> list[tuple[object, ...]]:
    return [row for batch in opened(folder, path).batches() for row in batch.rows()]


class TestEveryKindOfFile(DataSourceContract):
    @pytest.fixture(
        params=["rows.csv", "rows.csv.gz", "rows.tsv", "rows.jsonl", "rows.parquet", "part*.csv"]
    )
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        path = tmp_path / request.param
        if path.name == "rows.csv.gz":
            path.write_bytes(gzip.compress(CONTRACT_ROWS.write_csv().encode()))
        elif path.name == "part*.csv":
            CONTRACT_ROWS.head(13).write_csv(tmp_path / "part1.csv")
            CONTRACT_ROWS.slice(13).write_csv(tmp_path / "part2.csv")
        elif path.suffix == ".jsonl":
            CONTRACT_ROWS.write_ndjson(path)
        elif path.suffix == ".parquet":
            CONTRACT_ROWS.write_parquet(path)
        else:
            CONTRACT_ROWS.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
        return opened(tmp_path, request.param)


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path):
    (tmp_path / "houses.csv").write_text("a\n1\n")

    with pytest.raises(InvalidInputError, match=r"no file 'house.csv'.*Did you mean 'houses.csv'"):
        opened(tmp_path, "house.csv").check()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/a.csv", "no folder"),
        ("*.parquet", "No file matches"),
        ("sub.csv", "holds no file that can be read"),
    ],
)
def test_a_path_without_files_is_refused(tmp_path: Path, path: str, message: str):
    (tmp_path / "sub.csv").mkdir()

    with pytest.raises(InvalidInputError, match=message) as caught:
        opened(tmp_path, path).check()

    assert caught.value.facts["field"] == "data.source.path"


def test_a_suffix_nobody_reads_is_refused_before_anything_is_opened(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"'a\.sas7bdat'.*\.parquet"):
        opened(tmp_path, "a.sas7bdat")


BROKEN = {
    "latin.csv": (b"a,b\n1,2\n3,caf\xe9\n", r"latin.csv, line 3: Byte 0xe9 is not UTF-8"),
    "late.csv": (b"a,b\n" + b"1,2\n" * 400_000 + b"\xff,1\n", r"line 400002: Byte 0xff"),
    "zero.csv": (b"a,b\n1,\x002\n", r"line 2: It holds a zero byte"),
    "long.csv": (b"a,b\n1,2\n3,4,5\n", r"line 3: It has 3 fields where the header has 2"),
    "short.csv": (b'a,b,c\n"x\ny",2,3\n4,5\n', r"line 4: It has 2 fields where the header has 3"),
    "quote.csv": (b'a,b\n1,2\n3,"4\n5,6\n', r"line 3: unexpected end of data"),
    "empty.csv": (b"", r"The file is empty"),
    "empty.jsonl": (b"", r"The file is empty"),
    "header.csv": (b"a,b\n", r"no rows"),
    "bad.jsonl": (b'{"a": 1}\n{"a": 2,\n', r"bad.jsonl, line 2: It is not JSON"),
    "list.jsonl": (b'{"a": 1}\n[1]\n', r"line 2: It is JSON, but not an object"),
    "utf16.csv": (
        "a,b\n1,2\n".encode("utf-16"),
        r"line 1: It is UTF-16 .*iconv -f utf-16 -t utf-8",
    ),
    "plain16.csv": ("a,b\n1,2\n".encode("utf-16-be"), r"line 1: It is UTF-16 text"),
    "utf32.jsonl": ('{"a": 1}\n'.encode("utf-32"), r"line 1: It is UTF-32 text"),
    "twice.csv": (b"a,b,a\n1,2,3\n", r"twice.csv, line 1: Columns 1 and 3 are both named 'a'"),
    "nameless.csv": (b"\n,b\n1,2\n", r"nameless.csv, line 2: Column 1 of 2 has no name"),
    "deep.jsonl": (
        b'{"a": 1}\n' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        r"deep.jsonl, line 2: It holds objects or lists nested hundreds deep",
    ),
    "bad.parquet": (b"PAR1 nothing PAR1", r"cannot be read as Parquet"),
    "empty.parquet": (b"", r"cannot be read as Parquet"),
    "bad.csv.gz": (b"a,b\n1,2\n", r"not a gzip file"),
    "cut.csv.gz": (gzip.compress(b"a,b\n" + os.urandom(9_000).hex().encode())[:-40], "too early"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_name_and_line(tmp_path: Path, name: str):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    source = opened(tmp_path, name)

    with pytest.raises(InvalidInputError, match=message):
        _ = (source.check(), list(source.batches()))


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    # the tests may run as root, who may read everything
    def denied(self: Path, *arguments: object, **keywords: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)

    with pytest.raises(InvalidInputError, match="may not be read"):
        opened(tmp_path, "a.csv").check()


def test_files_with_other_columns_are_refused(tmp_path: Path):
    (tmp_path / "a1.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a2.csv").write_text("x,z\n1,2\n")

    with pytest.raises(
        InvalidInputError, match=r"a2.csv: Its columns are not those of a1.csv: y, z"
    ):
        list(opened(tmp_path, "a*.csv").batches())


def test_columns_in_another_order_are_put_in_order(tmp_path: Path):
    (tmp_path / "a1.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a2.csv").write_text("y,x\n4,3\n")

    assert rows(tmp_path, "a*.csv") == [("1", "2"), ("3", "4")]


def test_blank_lines_are_no_rows(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,2\r\n\r\n3,\r\n\r\n")

    assert rows(tmp_path, "a.csv") == [("1", "2"), ("3", None)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_in_the_header(tmp_path: Path, separator: str):
    header = separator.join(["x", '"a,b;c|d,,,;;;|||"', "z"])
    (tmp_path / "a.csv").write_text(f"{header}\n{separator.join('123')}\n")

    assert rows(tmp_path, "a.csv") == [("1", "2", "3")]


def test_a_fingerprint_changes_with_the_file(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    before = opened(tmp_path, "a.csv").fingerprint()

    path.write_text("x\n1\n2\n")

    assert opened(tmp_path, "a.csv").fingerprint() != before


def test_a_long_file_comes_in_batches(tmp_path: Path):
    pl.DataFrame({"n": range(120_000)}).write_csv(tmp_path / "a.csv")

    batches = list(opened(tmp_path, "a.csv").batches())

    assert len(batches) > 2
    assert [int(n) for batch in batches for n in batch["n"]] == list(range(120_000))
