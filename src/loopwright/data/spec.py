"""What a loop file says about documents in DynamoDB and MongoDB, and about folders of images."""

from __future__ import annotations

import re
from typing import Literal

import msgspec


class DynamoDbSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="dynamodb",
):
    """Rows in a table of DynamoDB, one row an item, in the order of the primary key.

    Maps become dotted columns; lists and sets become JSON text, sets sorted; binary attributes are
    left out and noted. Credentials come from the environment alone, as every tool of AWS takes
    them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, a role of the machine, ...).

    Parameters
    ----------
    table
        Name of the table.
    region
        Such as `eu-central-1`; `AWS_REGION` or the profile says it when absent.
    endpoint
        Address of a server that is not Amazon's, or `env:NAME`.
    query
        A key condition, such as `customer = :customer`: only these items are asked for, instead of
        the whole table.
    index
        Name of a secondary index to read instead of the table.
    filter
        A filter expression, such as `attribute_exists(#total) AND #total > :least`.
    names
        What each `#name` in the expressions stands for.
    values
        What each `:value` in the expressions stands for.
    fields
        Which columns, in this order; all that occur, in the order of their names, when absent.
    consistent
        Whether every write before the reading is seen; that costs twice the read capacity, and an
        index cannot do it.
    """

    table: str
    region: str | None = None
    endpoint: str | None = None
    query: str | None = None
    index: str | None = None
    filter: str | None = None
    names: dict[str, str] = msgspec.field(default_factory=dict)
    values: dict[str, object] = msgspec.field(default_factory=dict)
    fields: tuple[str, ...] | None = None
    consistent: bool = True


class MongoDbSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="mongodb",
):
    """Rows in a collection of MongoDB, one row a document, in the order of `_id`.

    Embedded documents become dotted columns, arrays JSON text, object ids text; binary fields are
    left out and noted. The password belongs into an environment variable: `url: env:NAME`.

    Parameters
    ----------
    url
        `mongodb://host:27017`, `mongodb+srv://...`, or `env:NAME`.
    database
        Name of the database.
    collection
        Name of a collection or view.
    filter
        A query as MongoDB writes it, such as `{status: active}`; dates and object ids in its
        extended JSON: `{since: {$gte: {$date: "2026-01-01T00:00:00Z"}}}`.
    fields
        Which columns, in this order; all that occur when absent.
    """

    url: str
    database: str
    collection: str
    filter: dict[str, object] = msgspec.field(default_factory=dict)
    fields: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return (
            f"MongoDbSource(url={without_password(self.url)!r}, database={self.database!r}, "
            f"collection={self.collection!r})"
        )

    def redacted(self) -> MongoDbSource:
        """Return the same source with `***` in place of a password, for records and displays."""
        return msgspec.structs.replace(self, url=without_password(self.url))


class ImageSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="images",
):
    """Images in a folder and the folders in it: one row an image, what it is and where it lies.

    The columns are `path` (from the folder, with `/`), `label`, `width` and `height` in pixels as
    stored, `mode` and `format` as Pillow names them, `bytes`, and `sha256`, the digest of the file.
    The pixels stay in the files. JPEG, PNG, WebP, GIF, BMP and TIFF are read, told apart by their
    content; files with other endings and hidden ones are passed over.

    Parameters
    ----------
    path
        The folder, or a pattern such as `photos/**/*.jpg`, relative to the folder of the loop file.
    labels
        `folder`: the folder an image lies in is its `label`, as in `cats/01.jpg`. `none`: there are
        no labels. Else a table in a file: its rows are joined by `file`.
    file
        The column of the table of labels that holds the path, or the bare name, of an image.
    broken
        `refuse`: a broken image stops the reading. `mark`: it is a row without width and height,
        and the column `problem` says why.
    max_pixels
        An image that unpacks to more pixels counts as broken.
    """

    path: str
    labels: str = "folder"
    file: str = "file"
    broken: Literal["refuse", "mark"] = "refuse"
    max_pixels: int = 90_000_000


def without_password(url: str) -> str:
    """Return a URL with `***` in place of its password.

    Examples
    --------
    >>> without_password("postgresql://ann:secret@db.example/sales?password=x")
    'postgresql://ann:***@db.example/sales?password=***'
    """
    url = re.sub(r"(://[^:/@?#]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", url)
