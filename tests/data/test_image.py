from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.data import ImageSource, Source, open_source, scan, take_snapshot
from loopwright.data.image import open_image
from loopwright.store.memory import MemoryArtifactStore
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract


def picture(size: tuple[int, int] = (6, 4), mode: str = "RGB", **options: Any) -> bytes:
    target = BytesIO()
    colour = 200 if mode in ("L", "P") else (200, 100, 50, 255)[: len(mode)]
    Image.new(mode, size, colour).save(target, **{"format": "PNG", **options})
    return target.getvalue()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def put(name: str, data: bytes | None = None) -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture() if data is None else data)
        return path

    return put


def opened(base: Path, path: str = "photos", **options: Any) -> Source:
    return open_source(ImageSource(path=path, **options), base, environ={})


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for batch in source.batches() for row in batch.to_dicts()]


class TestImages(DataSourceContract):
    """The contract's columns come from the table of labels; the images carry them."""

    @pytest.fixture(params=["csv", "parquet"])
    def source(
        self, request: pytest.FixtureRequest, tmp_path: Path, put: Callable[..., Path]
    ) -> Source:
        names = [f"{row['id']:03}.png" for row in CONTRACT_ROWS.to_dicts()]
        for name in names:
            put(name)
        table = CONTRACT_ROWS.with_columns(pl.Series("file", names)).reverse()
        if request.param == "csv":
            table.write_csv(tmp_path / "labels.csv")
        else:
            table.write_parquet(tmp_path / "labels.parquet")
        return opened(tmp_path, labels=f"labels.{request.param}")

    def test_the_schema_names_the_columns_in_order(self, source: Source) -> None:
        assert list(source.schema()) == [
            "path",
            *CONTRACT_ROWS.columns,
            *("width", "height", "mode", "format", "bytes", "sha256"),
        ]


def test_a_row_says_where_an_image_lies_and_what_it_is(tmp_path: Path, put: Callable[..., Path]):
    put("dogs/b.png", picture((3, 5), "L"))
    put("cats/a.JPG", picture((6, 4), "RGB", format="JPEG"))
    put("cats/ragdoll/c.gif", picture((2, 2), "P", format="GIF"))
    put("cats/notes.txt", b"no image")
    put("cats/.hidden.png", b"")
    put(".thumbnails/a.png", b"")

    found = rows(opened(tmp_path))

    assert [(row["path"], row["label"]) for row in found] == [
        ("cats/a.JPG", "cats"),
        ("cats/ragdoll/c.gif", "ragdoll"),
        ("dogs/b.png", "dogs"),
    ]
    data = (tmp_path / "photos/dogs/b.png").read_bytes()
    assert found[2] == {
        "path": "dogs/b.png",
        "label": "dogs",
        "width": 3,
        "height": 5,
        "mode": "L",
        "format": "PNG",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert (found[0]["width"], found[0]["height"], found[0]["mode"]) == (6, 4, "RGB")


def test_folders_are_labels_only_where_there_are_some_and_they_are_wanted(
    tmp_path: Path, put: Callable[..., Path]
):
    put("a.png")

    assert "label" not in opened(tmp_path).schema()
    put("cats/b.png")
    assert [row["label"] for row in rows(opened(tmp_path))] == [None, "cats"]
    assert "label" not in opened(tmp_path, labels="none").schema()


def test_a_pattern_chooses_images_and_paths_start_at_its_folder(
    tmp_path: Path, put: Callable[..., Path]
):
    put("cats/a.png")
    put("cats/b.jpg", picture(format="JPEG"))
    put("c.jpg", picture(format="JPEG"))

    found = rows(opened(tmp_path, "photos/**/*.jpg"))

    assert [row["path"] for row in found] == ["c.jpg", "cats/b.jpg"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,breed\na.png,x\n", r"no column 'file'"),
        ("file\na.png\n", "says nothing about the images"),
        ("file,width\na.png,3\n", "has a column 'width'"),
        ("file,breed\na.png,x\ng.png,y\n", r"1 rows that name no image, such as 'g.png'"),
        ("file,breed\na.png,x\n,y\n", "such as an empty name"),
        ("file,breed\na.png,x\ncats/a.png,y\n", "names the image 'cats/a.png' twice"),
        ("file,breed\nb.png,x\n", "names 'b.png', and 2 images have that name"),
    ],
)
def test_a_table_that_does_not_fit_the_images_is_refused(
    tmp_path: Path, put: Callable[..., Path], table: str, message: str
):
    for name in ("cats/a.png", "cats/b.png", "dogs/b.png"):
        put(name)
    (tmp_path / "labels.csv").write_text(table)

    with pytest.raises(InvalidInputError, match=message) as caught:
        opened(tmp_path, labels="labels.csv").check()

    assert caught.value.facts["field"] == "data.source.labels"


def test_an_image_that_the_table_leaves_out_has_no_label(tmp_path: Path, put: Callable[..., Path]):
    put("a.png")
    put("b.png")
    (tmp_path / "labels.csv").write_text("image,breed\nb.png,tabby\n")

    found = rows(opened(tmp_path, labels="labels.csv", file="image"))

    assert [row["breed"] for row in found] == [None, "tabby"]


def truncated(format_: str) -> bytes:
    image = Image.effect_noise((64, 64), 50)
    target = BytesIO()
    image.save(target, format=format_)
    return target.getvalue()[: len(target.getvalue()) // 2]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it has many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "it is no JPEG"),
    "text": (b"hello", "it is no JPEG"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no JPEG"),
    "cut PNG": (truncated("PNG"), "cannot be decoded"),
    "cut JPEG": (truncated("JPEG"), "cannot be decoded"),
    "large": (bomb(30_000, 3_500), "30,000 x 3,500 pixels"),
    "larger": (bomb(60_000, 60_000), "unpacks to more than 178,956,970 pixels"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_named_or_marked(tmp_path: Path, put: Callable[..., Path], kind: str):
    data, reason = BROKEN[kind]
    put("a.png", data)
    put("b.png")

    with pytest.raises(InvalidInputError) as caught:
        rows(opened(tmp_path))
    marked, whole = rows(opened(tmp_path, broken="mark"))

    assert "'a.png' in 'photos' is broken" in caught.value.message
    assert reason in caught.value.message
    assert reason in marked["problem"]
    assert (marked["width"], marked["bytes"]) == (None, len(data))
    assert (whole["width"], whole["problem"]) == (6, None)


def test_links_that_leave_the_folder_are_refused_and_others_read(
    tmp_path: Path, put: Callable[..., Path]
):
    place = put("cats/a.png")
    (tmp_path / "outside.png").write_bytes(picture())
    (place.parent / "b.png").symlink_to(place)
    (place.parent.parent / "again").symlink_to(place.parent)
    assert [row["path"] for row in rows(opened(tmp_path))] == ["cats/a.png", "cats/b.png"]

    (place.parent / "c.png").symlink_to(tmp_path / "outside.png")
    for path in ("photos", "photos/*/*.png"):
        with pytest.raises(InvalidInputError, match=r"link '\w+/c\.png' leads out"):
            opened(tmp_path, path).check()
    (place.parent / "c.png").unlink()
    (place.parent.parent / "away").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="link 'away' leads out"):
        opened(tmp_path).check()


def test_what_is_not_there_is_told(tmp_path: Path, put: Callable[..., Path]):
    put("notes.txt", b"no image")

    with pytest.raises(InvalidInputError, match=r"'photo' does not exist.*mean 'photos'"):
        opened(tmp_path, "photo").check()
    with pytest.raises(InvalidInputError, match="is no folder"):
        opened(tmp_path, "photos/notes.txt").check()
    with pytest.raises(InvalidInputError, match="no images in 'photos'"):
        opened(tmp_path).check()
    with pytest.raises(InvalidInputError, match="max_pixels is 0"):
        opened(tmp_path, max_pixels=0)


def test_the_fingerprint_sees_new_images_and_new_labels(tmp_path: Path, put: Callable[..., Path]):
    put("a.png")
    (tmp_path / "labels.csv").write_text("file,breed\na.png,x\n")
    source = opened(tmp_path, labels="labels.csv")
    first = source.fingerprint()

    (tmp_path / "labels.csv").write_text("file,breed\na.png,xy\n")
    second = source.fingerprint()
    put("b.png")

    assert len({first, second, source.fingerprint()}) == 3


def test_a_snapshot_is_a_table_from_which_every_image_is_found_again(
    tmp_path: Path, put: Callable[..., Path]
):
    for n in range(4):
        put(f"{'cats' if n % 2 else 'dogs'}/{n}.png", picture((n + 1, 2)))
    spec = ImageSource(path="photos")
    artifacts = MemoryArtifactStore(tmp_path)

    snapshot = take_snapshot(
        open_source(spec, tmp_path), artifacts=artifacts, clock=FixedClock(), folder=tmp_path
    )

    table = scan(snapshot, artifacts).collect()
    assert [str(each) for each in table.dtypes] == [
        *("String", "String", "Int64", "Int64", "String", "String", "Int64", "String")
    ]
    for row in table.to_dicts():
        data = open_image(spec, tmp_path, path=row["path"], sha256=row["sha256"])
        with Image.open(BytesIO(data)) as image:
            assert image.size == (row["width"], row["height"])


def test_an_image_that_changed_went_or_lies_outside_is_not_given(
    tmp_path: Path, put: Callable[..., Path]
):
    place = put("a.png")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    (tmp_path / "outside.png").write_bytes(place.read_bytes())
    spec = ImageSource(path="photos")

    for path in ("../outside.png", str(tmp_path / "outside.png")):
        with pytest.raises(InvalidInputError, match="leads out"):
            open_image(spec, tmp_path, path=path, sha256=digest)
    place.write_bytes(picture((9, 9)))
    with pytest.raises(InvalidInputError, match="is not the one of the snapshot"):
        open_image(spec, tmp_path, path="a.png", sha256=digest)
    place.unlink()
    with pytest.raises(NotFoundError, match=r"'a\.png' is no longer"):
        open_image(spec, tmp_path, path="a.png", sha256=digest)


def test_without_pillow_the_extra_is_named(
    tmp_path: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    put("a.png")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)

    with pytest.raises(BackendError, match=r"pip install 'loopwright\[images\]'"):
        rows(opened(tmp_path))
