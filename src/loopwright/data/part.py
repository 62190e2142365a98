"""What lies behind one file: plain CSV, JSON lines or Parquet parts, unpacked where they were not."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data.fault import broken, check_encoding, check_json_lines, too_deep
from loopwright.data.record import Flat, flat_record, write_records

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Kind = Literal["CSV", "JSON lines", "JSON", "Parquet", "Excel", "zip"]

SUFFIXES: dict[str, Kind] = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
    ".zip": "zip",
}
PACKED = (".gz", ".zst")
MAX_JSON_BYTES = 2 << 30
_MAX_MEMBERS = 10_000
_CHUNK_BYTES = 1 << 20
_FREE_BYTES = 256 << 20
_HARMLESS_BYTES = 256 << 20
_MAX_RATIO = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A plain local file, what it holds, and what people call it in a message."""

    path: Path
    kind: Kind
    label: str


def find_kind(name: str) -> Kind | None:
    """Return what a file of this name holds, compressed or not; None if its name does not tell.

    Examples
    --------
    >>> find_kind("Sales.CSV.gz"), find_kind("a.zip"), find_kind("a.txt"), find_kind("b.zip.gz")
    ('CSV', 'zip', None, None)
    """
    lower = name.lower()
    packed = next((suffix for suffix in PACKED if lower.endswith(suffix)), "")
    kind = next((k for s, k in SUFFIXES.items() if lower.removesuffix(packed).endswith(s)), None)
    return None if packed and kind in ("zip", "Excel") else kind


@contextmanager
def called(path: Path, label: str) -> Iterator[None]:
    """Say in errors what people call a file, not where its temporary copy lies."""
    try:
        yield
    except InvalidInputError as error:
        if str(path) == label or str(path) not in error.message:
            raise
        facts = {**error.facts, "value": label}
        raise InvalidInputError(
            error.message.replace(str(path), label), hint=error.hint, **facts
        ) from error


class Unpacked:
    """The plain parts of files, unpacked at most once into a temporary folder of its own.

    The folder goes when this object goes. Nothing inside an archive names a path.

    Parameters
    ----------
    sheet
        The sheet of a workbook; needed only when it has several.
    max_bytes
        What one file may unpack to.
    """

    def __init__(self, *, sheet: str | None, max_bytes: int) -> None:
        self._sheet = sheet
        self._max_bytes = max_bytes
        self._parts: dict[tuple[Path, int], list[Part]] = {}
        self._folder: Path | None = None

    def parts(self, path: Path, *, label: str) -> list[Part]:
        """Return the plain parts of a file.

        Raises
        ------
        InvalidInputError
            If it is broken, too large, or not what its name says.
        BackendError
            If the temporary folder has no room for it.
        """
        state = (path, path.stat().st_mtime_ns)
        if state not in self._parts:
            try:
                self._parts[state] = self._plain(path, label)
            except PermissionError as cause:
                raise broken(
                    path, None, "It may not be read.", "Give this user read access."
                ) from cause
            except (OSError, pl.exceptions.ComputeError) as cause:
                raise BackendError(
                    f"{label} cannot be unpacked: {str(cause).partition(chr(10))[0]}.",
                    hint="See that the temporary folder has room, or point TMPDIR elsewhere.",
                    field="data.source.path",
                ) from cause
        return self._parts[state]

    def new_folder(self) -> Path:
        """Return a new empty folder that lives as long as this object."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="loopwright-source-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder))

    def _plain(self, path: Path, label: str) -> list[Part]:
        kind = find_kind(path.name)
        if kind is None:
            raise broken(path, None, "Its name does not tell its kind.", "Rename it.")
        if kind == "zip":
            found = [self._flattened(part) for part in self._members(path, label)]
            return [part for parts in found for part in parts]
        part = Part(path=path, kind=kind, label=label)
        if path.name.lower().endswith(PACKED):
            part = replace(part, path=self._decompressed(path))
        return self._flattened(part)

    def _flattened(self, part: Part) -> list[Part]:
        """Return tables in place of documents, workbooks and nested records."""
        with called(part.path, part.label):
            return self._tabular(part)

    def _tabular(self, part: Part) -> list[Part]:
        if part.kind in ("CSV", "JSON", "JSON lines"):
            check_encoding(part.path)
        if part.kind == "Excel":
            return [replace(part, path=self._table_of_sheet(part.path), kind="Parquet")]
        if part.kind == "JSON":
            return self._tables(part, _documents(part.path))
        if part.kind == "JSON lines" and _is_nested(part.path):
            return self._tables(part, _lines(part.path))
        return [part]

    def _tables(self, part: Part, records: Iterator[Flat]) -> list[Part]:
        paths = write_records(records, self.new_folder())
        if not paths:
            raise broken(part.path, None, "It holds no objects.", "Give a file with rows.")
        return [replace(part, path=path, kind="Parquet") for path in paths]

    def _decompressed(self, path: Path) -> Path:
        plain = self.new_folder() / f"plain{Path(path.stem).suffix.lower()}"
        try:
            with _open_packed(path) as source:
                self._copy(source, plain, path, packed_bytes=path.stat().st_size)
        except EOFError as cause:
            raise broken(
                path, None, "The compressed file ends too early.", "Copy it again."
            ) from cause
        except gzip.BadGzipFile as cause:
            raise broken(path, None, "It is not a gzip file.", "Rename or compress it.") from cause
        except zlib.error as cause:
            raise broken(path, None, f"It is damaged: {cause}.", "Copy it again.") from cause
        except Exception as cause:
            if type(cause).__name__ != "ZstdError":
                raise
            raise broken(
                path, None, "It is not a whole zstd file.", "Copy or compress it again."
            ) from cause
        return plain

    def _members(self, path: Path, label: str) -> Iterator[Part]:
        folder = self.new_folder()
        try:
            with zipfile.ZipFile(path) as archive:
                for number, member in enumerate(_chosen(path, archive)):
                    suffix = Path(member.filename).suffix.lower()
                    plain = folder / f"member-{number:05}{suffix}"
                    with archive.open(member) as source:
                        self._copy(source, plain, path, packed_bytes=path.stat().st_size)
                    kind = SUFFIXES[suffix]
                    yield Part(path=plain, kind=kind, label=f"{label}, {member.filename!r}")
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as cause:
            raise broken(
                path, None, f"It cannot be read as zip: {cause}.", "Copy or pack it again."
            ) from cause

    def _copy(self, source: IO[bytes], plain: Path, path: Path, *, packed_bytes: int) -> None:
        n_bytes = 0
        with plain.open("wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                n_bytes += len(chunk)
                if n_bytes > self._max_bytes:
                    raise broken(
                        path,
                        None,
                        f"It unpacks to more than {self._max_bytes / 2**20:,.0f} MiB.",
                        "Set max_size in the source if it is to be read.",
                    )
                if n_bytes > _HARMLESS_BYTES and n_bytes > _MAX_RATIO * packed_bytes:
                    raise broken(
                        path,
                        None,
                        f"It unpacks to more than {_MAX_RATIO} times its size, as only archives "
                        "made to fill a disk do.",
                        "Unpack it yourself if you trust it.",
                    )
                write_checked(target, chunk, plain.parent)

    def _table_of_sheet(self, path: Path) -> Path:
        from loopwright.data.workbook import sheet_table

        frame = sheet_table(path, self._sheet)
        plain = self.new_folder() / "sheet.parquet"
        frame.write_parquet(plain, compression="lz4")
        return plain


def write_checked(target: IO[bytes], chunk: bytes, folder: Path) -> None:
    """Write a chunk while the disk has room, so that it is never filled to its end.

    Raises
    ------
    BackendError
        If less than 256 MiB would be left.
    """
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES + len(chunk):
        raise BackendError(
            f"The disk of {folder} has {free / 2**20:,.0f} MiB left, too little to go on.",
            hint="Free some room, or point TMPDIR to a larger disk.",
            field="data.source.path",
        )
    target.write(chunk)


def _open_packed(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    try:
        from backports import zstd
    except ImportError as cause:
        raise BackendError(
            "Reading zstd files needs the backports.zstd library, which is not installed.",
            hint="Install it: pip install 'loopwright[files]'",
        ) from cause
    return zstd.open(path, "rb")  # type: ignore[return-value]


def _chosen(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the tables in a zip file, in the order of their names."""
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise broken(path, None, f"It has {len(members):,} members.", "Pack fewer files.")
    seen = [
        member
        for member in members
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not Path(member.filename).name.startswith(".")
    ]
    tables = [m for m in seen if SUFFIXES.get(Path(m.filename).suffix.lower(), "zip") != "zip"]
    if not tables:
        names = ", ".join(repr(member.filename) for member in seen[:3]) or "nothing"
        raise broken(path, None, f"It holds no table, but {names}.", "Pack CSV or JSON files.")
    if any(member.flag_bits & 1 for member in tables):
        raise broken(path, None, "It is encrypted.", "Pack it without a password.")
    return sorted(tables, key=lambda member: member.filename)


def _is_nested(path: Path) -> bool:
    """Whether a line of the file holds an object or a list, seen from the types Polars finds."""
    try:
        schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
    except pl.exceptions.PolarsError:
        # broken, or too odd for one table: reading it tells which
        return False
    return any(dtype.is_nested() for dtype in schema.values())


def _lines(path: Path) -> Iterator[Flat]:
    import msgspec

    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield flat_record(decode(line))
            except msgspec.DecodeError as cause:
                check_json_lines(path)
                raise broken(path, number, f"It is not JSON: {cause}.", "Correct it.") from cause
            except InvalidInputError as cause:
                raise broken(path, number, cause.message, cause.hint) from cause
            except RecursionError as cause:
                raise too_deep(path, number) from cause


def _documents(path: Path) -> Iterator[Flat]:
    """Yield the objects of a JSON document: a list of them, or an object that holds one list."""
    import msgspec

    if path.stat().st_size > MAX_JSON_BYTES:
        raise broken(
            path,
            None,
            f"JSON documents over {MAX_JSON_BYTES >> 30} GiB are not read, as they fit no memory.",
            "Export JSON lines: one object a line.",
        )
    try:
        items = _items(path, path.read_bytes())
        for number, item in enumerate(items, start=1):
            try:
                yield flat_record(msgspec.json.decode(item, type=dict[str, Any]))
            except msgspec.ValidationError as cause:
                raise broken(
                    path, None, f"Item {number} is not an object.", "Give a list of objects."
                ) from cause
            except InvalidInputError as cause:
                raise broken(path, None, f"Item {number}: {cause.message}", cause.hint) from cause
            except RecursionError as cause:
                raise too_deep(path, None, f"Item {number}") from cause
    except RecursionError as cause:
        raise too_deep(path, None) from cause
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise broken(path, None, f"It is not JSON: {cause}.", "Export it again.") from cause


def _items(path: Path, data: bytes) -> list[Any]:
    import msgspec

    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise broken(path, None, "The file is empty.", "Give a file with rows.")
    if data.lstrip()[:1] == b"[":
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    if data.lstrip()[:1] == b"{":
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        lists = [name for name, raw in fields.items() if bytes(raw).lstrip()[:1] == b"["]
        if len(lists) == 1:
            return msgspec.json.decode(fields[lists[0]], type=list[msgspec.Raw])
        found = f"{len(lists)} lists ({', '.join(lists[:5])})" if lists else "no list"
        raise broken(
            path, None, f"It is an object with {found}.", "Give a list, or an object with one list."
        )
    raise broken(path, None, "It is not a list of objects.", "Give a list of objects.")
