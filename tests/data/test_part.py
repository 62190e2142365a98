from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import FileSource, Source, open_source
from loopwright.data import part as part_module
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract


def opened(folder: Path, path: str, **options: object) -> Source:
    return open_source(FileSource(path=path, **options), folder)


def rows(folder: Path, path: str, **options: object) -> list[dict[str, object]]:
    return [row for batch in opened(folder, path, **options).batches() for row in batch.to_dicts()]


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


CSV = CONTRACT_ROWS.write_csv().encode()
LINES = CONTRACT_ROWS.write_ndjson().encode()
OBJECTS = json.dumps(CONTRACT_ROWS.to_dicts(), indent=1).encode()


def write_contract(path: Path) -> None:
    name = path.name
    if name == "folder":
        path.mkdir()
        CONTRACT_ROWS.head(7).write_csv(path / "a.csv")
        CONTRACT_ROWS.slice(7).write_csv(path / "b.csv")
        (path / "read.me").write_text("not a table")
    elif name == "rows.zip":
        csv = [CONTRACT_ROWS.head(9).write_csv().encode(), CONTRACT_ROWS.slice(9).write_csv()]
        zipped(path, {"__MACOSX/x.csv": b"?", "read.me": b"?", "b.csv": csv[1], "a.csv": csv[0]})
    elif name == "lines.zip":
        zipped(path, {"deep/rows.jsonl": LINES})
    elif name == "rows.xlsx":
        CONTRACT_ROWS.write_excel(path)
    elif name == "within.json":
        path.write_bytes(b'\xef\xbb\xbf {"page": 1, "rows": ' + OBJECTS + b"}")
    elif name == "rows.json":
        path.write_bytes(OBJECTS)
    else:
        pack = zstd.compress if name.endswith(".zst") else gzip.compress
        content = CSV if ".csv" in name else LINES if ".jsonl" in name else OBJECTS
        path.write_bytes(pack(content))


class TestEveryPackedOrNestedFile(DataSourceContract):
    @pytest.fixture(
        params=[
            "folder",
            "rows.zip",
            "lines.zip",
            "rows.xlsx",
            "rows.json",
            "within.json",
            "rows.csv.zst",
            "rows.jsonl.gz",
            "rows.jsonl.zst",
            "rows.json.gz",
        ]
    )
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        write_contract(tmp_path / request.param)
        return opened(tmp_path, request.param)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_nested_objects_become_dotted_columns_and_lists_json_text(tmp_path: Path, name: str):
    records = [
        {"id": 1, "home": {"town": "Kent", "at": {"lat": 47.5}}, "tags": ["a", 1, {"b": None}]},
        {"id": 2, "home": {"town": "Rénton"}, "vip": True},
    ]
    lines = "\n".join(map(json.dumps, records))
    (tmp_path / name).write_text(json.dumps(records) if name == "a.json" else lines)

    found = rows(tmp_path, name)

    assert found == [
        {
            "id": 1,
            "home.town": "Kent",
            "home.at.lat": 47.5,
            "tags": '["a",1,{"b":null}]',
            "vip": None,
        },
        {"id": 2, "home.town": "Rénton", "home.at.lat": None, "tags": None, "vip": True},
    ]


def test_columns_that_appear_late_and_types_that_widen_late_hold_for_all_rows(tmp_path: Path):
    records = [{"n": k, "o": {"x": 1}} for k in range(10_050)]
    records += [{"n": 0.5, "o": {"x": "odd"}, "late": 10**30}]
    (tmp_path / "a.json").write_text(json.dumps(records))

    source = opened(tmp_path, "a.json")
    frame = pl.concat(source.batches())

    assert frame.schema == source.schema() == {"n": pl.Float64, "o.x": pl.String, "late": pl.String}
    assert frame["n"].to_list() == [*map(float, range(10_050)), 0.5]
    assert frame.row(-1) == (0.5, "odd", str(10**30))
    assert frame["late"].null_count() == 10_050


BROKEN = {
    "two.json": (b'{"a": [1], "b": [2]}', r"two.json: It is an object with 2 lists \(a, b\)"),
    "none.json": (b'{"a": 1}', "with no list"),
    "word.json": (b'"a"', "not a list of objects"),
    "cut.json": (b'[{"a": 1}, {"a"', "is not JSON"),
    "mixed.json": (b'[{"a": 1}, 2]', "Item 2 is not an object"),
    "void.json": (b"  ", "file is empty"),
    "nothing.json": (b"[]", "holds no objects"),
    "deep.json": (b'[{"a":' * 1 + b'{"a":' * 70 + b"1" + b"}" * 71 + b"]", "more than 64 deep"),
    "deeper.json": (b"[1," + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"]", "nested hundreds deep"),
    "lists.jsonl": (
        b'{"a": {"b": 1}}\n{"a": {"b": ' + b"[" * 9_000 + b"]" * 9_000 + b"}}\n",
        r"lists.jsonl, line 2: It holds objects or lists nested hundreds deep",
    ),
    "twice.json": (b'[{"a.b": 1, "a": {"b": 2}}]', "land on the column 'a.b'"),
    "twice.jsonl": (b'{"a.b": 1, "a": {"b": 2}}', "line 1: Two values"),
    "scalar.jsonl": (b'{"a": {"b": 1}}\n[7]\n', "line 2: It is JSON, but not an object"),
    "bad.csv.zst": (b"a,b\n1,2\n", "not a whole zstd file"),
    "cut.csv.zst": (zstd.compress(b"a,b\n" + os.urandom(9_000).hex().encode())[:-40], "too early"),
    "bad.json.gz": (b"[]", "not a gzip file"),
    "cut.json.gz": (gzip.compress(b'[{"a": 1}, {"a"'), r"cut\.json\.gz: It is not JSON"),
    "scalar.jsonl.gz": (gzip.compress(b'{"a": {"b": 1}}\n[7]\n'), r"\.gz, line 2: It is JSON"),
    "flip.csv.gz": (gzip.compress(os.urandom(999))[:200] + b"\xff" * 900, r"flip.csv.gz: It is"),
    "bad.zip": (b"PK nothing", "cannot be read as zip"),
    "bad.xlsx": (b"id;price", "not an Excel workbook"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_the_name_that_people_know(tmp_path: Path, name: str):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    source = opened(tmp_path, name)

    with pytest.raises(InvalidInputError, match=message) as caught:
        source.check()

    assert str(tmp_path / name) in caught.value.message
    assert "loopwright-source-" not in str(caught.value)


def test_a_broken_row_inside_an_archive_is_told_with_member_and_line(tmp_path: Path):
    zipped(tmp_path / "a.zip", {"x.csv": b"a,b\n1,2\n", "y.csv": b"a,b\n1,2,3\n"})

    with pytest.raises(InvalidInputError, match=r"a\.zip, 'y\.csv', line 2: It has 3 fields"):
        list(opened(tmp_path, "a.zip").batches())


def test_names_inside_an_archive_are_never_paths(tmp_path: Path):
    zipped(tmp_path / "a.zip", {"../../evil.csv": b"x\n1\n", "/etc/evil.csv": b"x\n2\n"})

    assert [row["x"] for row in rows(tmp_path, "a.zip")] == ["1", "2"]
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"]


def test_an_archive_without_a_table_is_refused_with_what_it_holds(tmp_path: Path):
    zipped(tmp_path / "a.zip", {"inner.zip": b"PK", "photo.png": b"x"})

    with pytest.raises(InvalidInputError, match=r"holds no table, but 'inner.zip', 'photo.png'"):
        opened(tmp_path, "a.zip").check()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.zip"])
def test_a_file_that_unpacks_to_more_than_allowed_is_refused(tmp_path: Path, name: str):
    content = b"x\n" + b"1\n" * 2_000_000
    if name == "a.zip":
        zipped(tmp_path / name, {"a.csv": content})
    else:
        pack = zstd.compress if name.endswith(".zst") else gzip.compress
        (tmp_path / name).write_bytes(pack(content))

    with pytest.raises(InvalidInputError, match=r"more than 2 MiB\. Set max_size"):
        opened(tmp_path, name, max_size="2 MiB").check()


def test_an_archive_made_to_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(part_module, "_HARMLESS_BYTES", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x\n" + b"0" * (8 << 20)))

    with pytest.raises(InvalidInputError, match="200 times its size"):
        opened(tmp_path, "a.csv.gz").check()


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x\n1\n"))
    monkeypatch.setattr(part_module, "_FREE_BYTES", 1 << 60)

    with pytest.raises(BackendError, match=r"MiB left, too little.*TMPDIR"):
        opened(tmp_path, "a.csv.gz").check()


def test_the_temporary_copies_go_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "a.json").write_bytes(OBJECTS)
    source = opened(tmp_path, "a.json")
    source.check()
    assert list((tmp_path / "scratch").iterdir())

    del source

    assert not list((tmp_path / "scratch").iterdir())


def workbook(path: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path) as book:
        for name in ("Notes", "Sales"):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, ["id", "code"])
            sheet.write_row(1, 0, [1, 7])
            sheet.write_row(3, 0, [2, "x7" if name == "Sales" else "n"])


def test_a_workbook_with_several_sheets_needs_the_name_of_one(tmp_path: Path):
    workbook(tmp_path / "a.xlsx")

    with pytest.raises(InvalidInputError, match=r"2 sheets: Notes, Sales.*`sheet: Notes`"):
        opened(tmp_path, "a.xlsx").check()
    with pytest.raises(InvalidInputError, match=r"no sheet 'Sale'.*mean 'Sales'"):
        opened(tmp_path, "a.xlsx", sheet="Sale").check()


def test_a_sheet_keeps_numbers_among_texts_and_leaves_blank_rows_out(tmp_path: Path):
    workbook(tmp_path / "a.xlsx")

    found = rows(tmp_path, "a.xlsx", sheet="Sales")

    assert found == [{"id": 1, "code": "7"}, {"id": 2, "code": "x7"}]


def test_a_wrong_limit_is_refused_with_the_key(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"data\.source\.max_size is 'big'"):
        opened(tmp_path, "a.csv", max_size="big")
