"""Images in folders as rows: where each lies, what it is, its label, and the digest of its bytes."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import nearest
from loopwright.data.image_label import LabelTable
from loopwright.data.part import find_kind
from loopwright.data.source import check_target
from loopwright.data.spec import ImageSource

if TYPE_CHECKING:
    from types import ModuleType

    import polars as pl
else:
    pl = LazyModule("polars")

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_FILE_BYTES = 1 << 30
MAX_PIXELS = 178_956_970
"""More pixels than this Pillow never unpacks."""

# what Pillow reads by itself: EPS, for one, would start another program
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_BATCH_IMAGES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image in a folder: its place, and its path from the folder, with `/`."""

    path: Path
    name: str

    @property
    def folder(self) -> str | None:
        """Name of the folder it lies in, below the source's own; None if it lies in that."""
        return self.name.split("/")[-2] if "/" in self.name else None


class OpenedImages:
    """The images in a folder and the folders in it, in the order of their paths.

    Every image is decoded once, so that one that is cut short is found here and not in training.
    A row holds what is needed to find the image again: `open_image` takes `path` and `sha256`.
    """

    def __init__(self, spec: ImageSource, base: Path, *, environ: Mapping[str, str]) -> None:
        if not 1 <= spec.max_pixels <= MAX_PIXELS:
            raise _wrong(
                f"max_pixels is {spec.max_pixels}, which is not from 1 to {MAX_PIXELS}.",
                "Leave it out, or give a number such as 90000000.",
                "max_pixels",
            )
        self._spec = spec
        self._root, self._pattern = _place(spec.path, base)
        self._table: LabelTable | None = None
        if spec.labels not in ("folder", "none"):
            self._table = LabelTable(spec, base, environ=environ)

    def describe(self) -> str:
        """Return the folder or pattern as the loop file gives it."""
        return f"images {self._spec.path}"

    def fingerprint(self) -> str:
        """Return a digest of the path, size and time of change of every image and of the labels."""
        facts: list[Any] = []
        for file in self._files():
            stat = file.path.stat()
            facts.append([file.name, stat.st_size, stat.st_mtime_ns])
        return digest_value([facts, self._table.fingerprint() if self._table else None])

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns; no image is opened."""
        files = self._files()
        return self._schema(self._labels(files))

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows, in batches of a thousand images."""
        files = self._files()
        labels = self._labels(files)
        schema = self._schema(labels)
        for start in range(0, len(files), _BATCH_IMAGES):
            some = files[start : start + _BATCH_IMAGES]
            frame = pl.DataFrame([self._row(file) for file in some], schema=_own_schema())
            beside = labels.slice(start, len(some))
            yield pl.concat([frame, beside], how="horizontal").select(list(schema))

    def check(self, target: str | None = None) -> None:
        """Raise for no folder, no images, a table that does not fit them, and an unusable target.

        Images are opened until the target is seen to vary.
        """
        files = self._files()
        if target is None:
            self._labels(files)
            return
        columns = list(self.schema())
        check_target(target, columns=columns, n_values=None, of=f"the {self.describe()}")
        values: set[object] = set()
        for batch in self.batches():
            column = batch[target].drop_nulls()
            values.update(column.filter(column != "") if column.dtype == pl.String else column)
            if len(values) > 1:
                return
        check_target(target, columns=columns, n_values=len(values), of=f"the {self.describe()}")

    def _files(self) -> list[ImageFile]:
        found = [*self._found()]
        if not found:
            raise _wrong(
                f"There are no images in {self._spec.path!r}.",
                f"Put files in it that end in {', '.join(SUFFIXES)}.",
                "path",
            )
        return sorted(found, key=lambda file: file.name.encode())

    def _found(self) -> Iterator[ImageFile]:
        if not self._root.is_dir():
            raise _missing_folder(self._spec.path, self._root)
        real_root = self._root.resolve()
        paths = _walked(self._root) if self._pattern is None else self._root.glob(self._pattern)
        for path in paths:
            name = path.relative_to(self._root).as_posix()
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if path.is_symlink() or self._pattern is not None:
                _check_inside(path, real_root, name)
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield ImageFile(path=path, name=_encodable(name))

    def _labels(self, files: Sequence[ImageFile]) -> pl.DataFrame:
        """Return the columns beside those of the images themselves, a row for each of them."""
        if self._table is not None:
            return self._table.rows([file.name for file in files], taken=set(_own_schema()))
        folders = [file.folder for file in files]
        if self._spec.labels == "none" or not any(folders):
            return pl.DataFrame()
        return pl.DataFrame({"label": folders}, schema={"label": pl.String})

    def _schema(self, labels: pl.DataFrame) -> dict[str, pl.DataType]:
        own = _own_schema()
        if self._spec.broken == "refuse":
            del own["problem"]
        return {"path": own.pop("path"), **labels.schema, **own}

    def _row(self, file: ImageFile) -> dict[str, Any]:
        try:
            size = file.path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise _BrokenImageError(f"it has {size:,} bytes")
            data = file.path.read_bytes()
        except _BrokenImageError as broken:
            return self._broken_row(file, size, None, str(broken))
        except OSError as cause:
            raise BackendError(
                f"The image {file.name!r} in {self._spec.path!r} cannot be read: {cause.strerror}.",
                hint="See that it is still there and that this user may read it.",
                field="data.source.path",
            ) from cause
        digest = hashlib.sha256(data).hexdigest()
        try:
            facts = _facts(data, self._spec.max_pixels)
        except _BrokenImageError as broken:
            return self._broken_row(file, len(data), digest, str(broken))
        return {"path": file.name, "bytes": len(data), "sha256": digest, **facts}

    def _broken_row(
        self, file: ImageFile, size: int, digest: str | None, problem: str
    ) -> dict[str, Any]:
        if self._spec.broken == "refuse":
            raise _wrong(
                f"The image {file.name!r} in {self._spec.path!r} is broken: {problem}.",
                "Mend or remove it, or set `broken: mark` to keep it as a row without a size.",
                "path",
            )
        return {"path": file.name, "bytes": size, "sha256": digest, "problem": problem}


class _BrokenImageError(Exception):
    """An image cannot be decoded; the text says why."""


def holds_images(path: Path) -> bool:
    """Whether a path is a folder that holds images, or whose folders do, and no table."""
    if not path.is_dir() or any(find_kind(each.name) for each in path.iterdir()):
        return False
    return any(each.suffix.lower() in SUFFIXES for each in _walked(path))


def open_image(spec: ImageSource, base: Path, *, path: str, sha256: str) -> bytes:
    """Return the bytes of an image of a snapshot, as they were when the snapshot was taken.

    Parameters
    ----------
    spec, base
        The source, and the folder of the loop file.
    path, sha256
        Those columns of its row.

    Raises
    ------
    NotFoundError
        If the image is gone.
    InvalidInputError
        If it holds other bytes now, or the path leads out of the folder.
    """
    root, _ = _place(spec.path, base)
    place = root / path
    _check_inside(place, root.resolve(), path)
    try:
        data = place.read_bytes()
    except OSError as cause:
        raise NotFoundError(
            f"The image {path!r} is no longer in {spec.path!r}.",
            hint="Put it back, or take a new snapshot: loopwright data refresh.",
            kind="image",
            name=path,
        ) from cause
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _wrong(
            f"The image {path!r} in {spec.path!r} is not the one of the snapshot.",
            "Put the old one back, or take a new snapshot: loopwright data refresh.",
            "path",
        )
    return data


def _facts(data: bytes, max_pixels: int) -> dict[str, Any]:
    """Return what an image is, after it was decoded whole.

    Raises
    ------
    _BrokenImageError
        If it cannot be, or has too many pixels.
    """
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            # how many pixels are too many is decided below
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            image = pillow.open(BytesIO(data), formats=_FORMATS)
            facts = {
                "width": image.width,
                "height": image.height,
                "mode": image.mode,
                "format": image.format,
            }
            if image.width * image.height > max_pixels:
                raise _BrokenImageError(
                    f"it unpacks to {image.width:,} x {image.height:,} pixels, more than the "
                    f"{max_pixels:,} of max_pixels"
                )
            # a JPEG is read to its end at an eighth of its size too
            image.draft(None, (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
    except _BrokenImageError:
        raise
    except pillow.UnidentifiedImageError as cause:
        raise _BrokenImageError(f"it is no {', '.join(_FORMATS[:-1])} or TIFF file") from cause
    except pillow.DecompressionBombError as cause:
        raise _BrokenImageError(f"it unpacks to more than {MAX_PIXELS:,} pixels") from cause
    except Exception as cause:
        # decoders answer bad bytes with errors of many kinds
        reason = str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__
        raise _BrokenImageError(f"it cannot be decoded ({reason[:200]})") from cause
    return facts


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as cause:
        raise BackendError(
            "Reading images needs the Pillow library, which is not installed.",
            hint="Install it: pip install 'loopwright[images]'",
        ) from cause
    return Image


def _own_schema() -> dict[str, pl.DataType]:
    return {
        "path": pl.String(),
        "width": pl.Int64(),
        "height": pl.Int64(),
        "mode": pl.String(),
        "format": pl.String(),
        "bytes": pl.Int64(),
        "sha256": pl.String(),
        "problem": pl.String(),
    }


def _place(path: str, base: Path) -> tuple[Path, str | None]:
    """Return the folder that paths of images start from, and the pattern below it, if any."""
    parts = (base / Path(path).expanduser()).parts
    plain = next((n for n, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    return Path(*parts[:plain]), "/".join(parts[plain:]) or None


def _walked(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        # a linked folder is not entered: inside the root its images are met at their own place
        yield from (Path(folder) / name for name in [*names, *files])


def _check_inside(path: Path, real_root: Path, name: str) -> None:
    """Raise if a path, its links followed, leads out of the folder."""
    try:
        inside = path.resolve().is_relative_to(real_root)
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise _wrong(
            f"The link {name!r} leads out of the folder of the images, or round in a circle.",
            "Put the images themselves there, or name the folder they lie in.",
            "path",
        )


def _encodable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as cause:
        shown = name.encode("utf-8", "replace").decode()
        raise _wrong(
            f"The name of the image {shown!r} is not UTF-8.", "Rename it.", "path"
        ) from cause
    return name


def _missing_folder(path: str, root: Path) -> InvalidInputError:
    beside = [each.name for each in root.parent.iterdir()] if root.parent.is_dir() else []
    near = nearest(root.name, beside)
    what = "is no folder" if root.exists() else "does not exist"
    return _wrong(
        f"The folder of images {path!r} {what}.",
        f"Did you mean {near!r}?" if near and not root.exists() else "Correct the path.",
        "path",
    )


def _wrong(message: str, hint: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, hint=hint, field=f"data.source.{field}")
