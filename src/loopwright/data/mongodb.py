"""Rows in MongoDB: the documents of a collection or a view, in the order of their ids."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.core.names import did_you_mean
from loopwright.data.document import OpenedRecords, listed, number_of
from loopwright.data.record import Flat, flat_record
from loopwright.data.spec import MongoDbSource, without_password

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 60
FETCH_DOCUMENTS = 5_000
_FIELD = "data.source"
_SCHEMES = ("mongodb://", "mongodb+srv://")
# these run programs in the database
_PROGRAMS = frozenset({"$where", "$function", "$accumulator"})
_UNAUTHENTICATED = frozenset({18, 8000})
_UNAUTHORIZED = frozenset({13})
# the query itself: bad values, unknown operators, wrong types
_MISTAKES = frozenset({2, 9, 14, 16, 40, 51, 52, 73, 168, 15974, 15983, 28724})
# the types whose values compare with one another, as MongoDB names them
_COMPARABLE = ("number", "string", "date", "bool", "objectId")


def open_documents(spec: MongoDbSource, *, environ: Mapping[str, str]) -> OpenedRecords:
    """Return the source of the documents that `spec` describes; nothing is read yet.

    Raises
    ------
    InvalidInputError
        If the address, a name, the filter or the fields cannot be used.
    """
    for field in ("database", "collection"):
        if not getattr(spec, field).strip("$ "):
            raise _wrong(f"The {field} of a MongoDB source is empty.", "Name it.", field)
    if spec.fields is not None and not spec.fields:
        raise _wrong(
            "The fields of a MongoDB source are empty.", "Name them, or leave it out.", "fields"
        )
    _check_filter(spec.filter)
    return OpenedRecords(_Documents(spec=spec, url=_checked_url(spec.url, environ)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    """Reads the documents of a collection; `border` is a column and its least value."""

    spec: MongoDbSource
    url: str
    border: tuple[str, Any] | None = None

    def __repr__(self) -> str:
        return f"_Documents(spec={self.spec!r}, border={self.border!r})"

    def describe(self) -> str:
        return (
            f"MongoDB collection {self.spec.database}.{self.spec.collection} at {_place(self.url)}"
        )

    def columns(self, found: Sequence[str]) -> list[str]:
        return list(found if self.spec.fields is None else self.spec.fields)

    def since(self, column: str, value: Any) -> _Documents | None:
        if isinstance(value, date) and not isinstance(value, datetime):
            # MongoDB has moments only, so this was one when it was read
            return None
        return replace(self, border=(column, value))

    def records(self) -> Generator[Flat, None, None]:
        with self._client() as client:
            collection = client[self.spec.database][self.spec.collection]
            options: dict[str, Any] = {}
            if self.border is not None and isinstance(self.border[1], str):
                # text compares byte by byte here, in whatever language the collection compares
                options["collation"] = {"locale": "simple"}
            cursor = collection.find(
                self._filter(),
                self._projection(),
                sort=[("_id", 1)],
                batch_size=FETCH_DOCUMENTS,
                **options,
            )
            with cursor:
                for document in cursor:
                    yield self._record(document)

    def nothing_found(self) -> InvalidInputError:
        spec = self.spec
        with self._client() as client:
            names = client[spec.database].list_collection_names()
        if spec.collection not in names:
            hint, field = did_you_mean(spec.collection, names), "collection"
            if not names:
                hint = "The database is empty or does not exist; check its name."
        elif spec.filter:
            hint, field = "Check the filter; without it every document is a row.", "filter"
        else:
            hint, field = "Choose a collection with documents.", "collection"
        return _wrong(f"The {self.describe()} gives no documents.", hint, field)

    def _filter(self) -> dict[str, Any]:
        from bson import json_util

        stated: dict[str, Any] = json_util.loads(json.dumps(self.spec.filter))
        if self.border is None:
            return stated
        beyond = {"$or": _beyond(*self.border)}
        return {"$and": [stated, beyond]} if stated else beyond

    def _projection(self) -> dict[str, int] | None:
        if self.spec.fields is None:
            return None
        # of a document and a field inside it only the outer one may be named
        tops = dict.fromkeys(name.partition(".")[0] for name in self.spec.fields)
        return {"_id": 0, **dict.fromkeys(tops, 1)} | ({"_id": 1} if "_id" in tops else {})

    def _record(self, document: Mapping[str, Any]) -> Flat:
        try:
            flat = flat_record({name: _plain(value) for name, value in document.items()})
        except InvalidInputError as error:
            raise _wrong(
                f"The document with _id {str(document.get('_id'))[:80]!r} in the "
                f"{self.describe()}: {error.message}",
                error.hint,
                "fields",
            ) from error
        if self.spec.fields is None:
            return flat
        return {name: flat.get(name) for name in self.spec.fields}

    @contextmanager
    def _client(self) -> Iterator[MongoClient[dict[str, Any]]]:
        try:
            import pymongo
        except ImportError as cause:
            raise BackendError(
                "Reading MongoDB needs the pymongo library, which is not installed.",
                hint="Install it: pip install 'loopwright[mongodb]'",
            ) from cause
        try:
            client: MongoClient[dict[str, Any]] = pymongo.MongoClient(
                self.url,
                appname="loopwright",
                connectTimeoutMS=CONNECT_TIMEOUT_S * 1_000,
                serverSelectionTimeoutMS=CONNECT_TIMEOUT_S * 1_000,
                socketTimeoutMS=ANSWER_TIMEOUT_S * 1_000,
                tz_aware=True,
                uuidRepresentation="standard",
                datetime_conversion="DATETIME_AUTO",
            )
        except (pymongo.errors.PyMongoError, ValueError, TypeError):
            # the cause would show the URL with its password, so it is not kept
            raise _bad_url(self.spec.url) from None
        try:
            yield client
        except pymongo.errors.OperationFailure as cause:
            raise self._refused(cause) from cause
        except pymongo.errors.PyMongoError as cause:
            raise self._failed(cause) from cause
        finally:
            client.close()

    def _refused(self, cause: Any) -> LoopwrightError:
        """Return the error for a command that the server did not carry out."""
        reason = self._reason(cause)
        if cause.code in _MISTAKES:
            return _wrong(
                f"MongoDB refuses to read the {self.describe()}: {reason}.",
                "Correct the filter; try it in a MongoDB shell first.",
                "filter",
            )
        hint = "Try again when the database answers."
        if cause.code in _UNAUTHENTICATED:
            hint = "Correct user and password in the URL, and authSource where it is needed."
        elif cause.code in _UNAUTHORIZED:
            hint = "Let this user find in the collection: the role `read` is enough."
        refused = cause.code in _UNAUTHENTICATED | _UNAUTHORIZED
        return BackendError(
            f"The {self.describe()} cannot be read: {reason}.",
            hint=hint,
            retryable=not refused,
            field=f"{_FIELD}.url",
        )

    def _failed(self, cause: PyMongoError) -> BackendError:
        return BackendError(
            f"The {self.describe()} cannot be read: {self._reason(cause)}.",
            hint="Check that it runs and that host, port and the options of the URL are right.",
            retryable=True,
            field=f"{_FIELD}.url",
        )

    def _reason(self, cause: Exception) -> str:
        text = str(cause).partition("\n")[0].partition(", Timeout: ")[0]
        text = text.partition(", full error: ")[0].partition(" (configured timeouts")[0]
        return _without_secret(text, self.url).rstrip(".")


def _plain(value: Any) -> Any:
    """Return a value of BSON as a cell, a mapping of cells, or a list as JSON has it."""
    if value is None or isinstance(value, bool | str | float | datetime):
        return value
    if isinstance(value, int):
        # whole numbers of 64 bits have a type of their own
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [listed(_plain(each)) for each in value]
    return _other(value)


def _other(value: Any) -> Any:
    from bson import DBRef, Decimal128, Regex, Timestamp
    from bson.datetime_ms import DatetimeMS

    if isinstance(value, Decimal128):
        return number_of(value.to_decimal())
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, Timestamp):
        return value.as_datetime()
    if isinstance(value, DatetimeMS):
        raise InvalidInputError(
            "A moment is before the year 1 or after 9999.",
            hint="Leave such documents out with the filter, or name the fields without it.",
        )
    if isinstance(value, DBRef):
        return {name: _plain(each) for name, each in value.as_doc().items()}
    if isinstance(value, Regex):
        return str(value.pattern)
    # object ids and universal ids as people write them; the ends of the order by their names
    return str(value) if not repr(value).endswith("Key()") else repr(value)[:-2]


def _beyond(column: str, value: Any) -> list[dict[str, Any]]:
    """Return the conditions, one of which a document beyond the border meets.

    Only values of one type compare there; those of another are for this process to judge.
    """
    from bson import ObjectId

    kind = "date" if isinstance(value, datetime) else "string"
    kind = "number" if isinstance(value, int | float) else kind
    conditions: list[dict[str, Any]] = [{column: {"$gte": value}}]
    others = [each for each in _COMPARABLE if each != kind]
    if kind == "string" and ObjectId.is_valid(value):
        others.remove("objectId")
        conditions.append({column: {"$gte": ObjectId(value)}})
    conditions += [{column: {"$type": each}} for each in others]
    if "." in column:
        # a dot may also stand in the name of a field
        conditions.append({column: {"$exists": False}})
    return conditions


def _check_filter(value: Any) -> None:
    """Raise for a filter that would run a program in the database."""
    if isinstance(value, list):
        for each in value:
            _check_filter(each)
    if not isinstance(value, dict):
        return
    if found := _PROGRAMS & value.keys():
        raise _wrong(
            f"The filter runs a program in the database ({', '.join(sorted(found))}).",
            "State the condition with $expr, $gt, $in and the like.",
            "filter",
        )
    for each in value.values():
        _check_filter(each)


def _checked_url(text: str, environ: Mapping[str, str]) -> str:
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise _wrong(
                f"The environment variable {name}, which should hold the address of MongoDB, is "
                "not set.",
                f"Set it: export {name}=mongodb://user:password@host:27017/?authSource=admin",
                "url",
            )
        text = environ[name]
    if not text.startswith(_SCHEMES):
        raise _bad_url(text)
    return text


def _bad_url(text: str) -> InvalidInputError:
    return _wrong(
        f"{without_password(text).partition('://')[0]!r} does not begin an address of MongoDB, or "
        "the rest of it is no address.",
        "Write mongodb://host:27017 or mongodb+srv://host; %-escape odd letters in a password.",
        "url",
    )


def _place(url: str) -> str:
    return url.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[0]


def _without_secret(text: str, url: str) -> str:
    from urllib.parse import unquote

    user = url.partition("://")[2].rpartition("@")[0]
    secret = user.partition(":")[2]
    for each in {secret, unquote(secret)} - {""}:
        text = text.replace(each, "***")
    return text


def _wrong(message: str, hint: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, hint=hint, field=f"{_FIELD}.{field}")
