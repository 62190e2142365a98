"""Rows in Redis: hashes and JSON strings under a pattern of keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data.record import Flat, flat_record, write_records
from loopwright.data.source import BATCH_ROWS, RedisSource, check_target
from loopwright.data.spec import without_password

if TYPE_CHECKING:
    import polars as pl
    from redis import Redis
else:
    pl = LazyModule("polars")

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 60
SCAN_COUNT = 1_000
_KEYS_PER_PART = 200_000
_SCHEMES = ("redis://", "rediss://", "unix://")


class OpenedKeys:
    """The rows under a pattern of keys, one a key, in the order of the keys.

    A scan of Redis gives keys in an order of its own, and some twice; they are therefore gathered
    and sorted first. Values follow in pipelines of a thousand, so that memory holds the keys and
    one batch. A key that goes while it is read is left out.
    """

    def __init__(self, spec: RedisSource, *, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._url = _checked_url(spec.url, environ)
        if not spec.pattern:
            raise InvalidInputError(
                "The pattern of a Redis source is empty.",
                hint="Write `pattern: 'customer:*'`, or '*' for every key.",
                field="data.source.pattern",
            )
        if spec.fields is not None and (not spec.fields or spec.key in spec.fields):
            raise InvalidInputError(
                "The fields of a Redis source are empty, or one has the name of the key column.",
                hint="Name the fields, and set `key` to another name or to null.",
                field="data.source.fields",
            )

    def describe(self) -> str:
        """Return the pattern and the server, without user and password."""
        return f"keys {self._spec.pattern!r} in Redis at {_place(self._url)}"

    def fingerprint(self) -> None:
        """Return None: Redis has no cheap sign of change."""
        return

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns; hash fields are text. Reads every row."""
        with self._staged() as parts:
            return dict(pl.scan_parquet(parts[0], glob=False).collect_schema()) if parts else {}

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in the order of their keys."""
        with self._staged() as parts:
            for part in parts:
                yield from pl.read_parquet(part).iter_slices(BATCH_ROWS)

    def check(self, target: str | None = None) -> None:
        """Raise for a server that cannot be reached, no rows, and an unusable target."""
        with self._staged() as parts:
            if not parts:
                raise InvalidInputError(
                    f"There are no {self.describe()}.",
                    hint=self._hint(),
                    field="data.source.pattern",
                    value=self._spec.pattern,
                )
            frame = pl.scan_parquet(parts, glob=False)
            columns = frame.collect_schema().names()
            if target is not None:
                check_target(target, columns=columns, n_values=None, of=f"the {self.describe()}")
                n_values = frame.select(pl.col(target).drop_nulls().n_unique()).collect().item()
                check_target(
                    target, columns=columns, n_values=n_values, of=f"the {self.describe()}"
                )

    def _hint(self) -> str:
        """Return what is there instead: prefixes of some keys."""
        with self._client() as client:
            seen: list[Any] = client.scan(0, count=200)[1]
        prefixes = {key.decode(errors="replace").partition(":")[0] + ":*" for key in seen}
        if not prefixes:
            return "The database is empty; check its number in the URL."
        return did_you_mean(self._spec.pattern, prefixes)

    @contextmanager
    def _staged(self) -> Iterator[list[Path]]:
        """Give the rows as Parquet files with the same columns, for as long as the context."""
        with tempfile.TemporaryDirectory(prefix="loopwright-redis-") as folder:
            place = Path(folder)
            with self._client() as client:
                keys = _sorted_keys(client, self._spec.pattern, place)
                (place / "rows").mkdir()
                columns = None
                if self._spec.fields is not None:
                    columns = [*([self._spec.key] if self._spec.key else []), *self._spec.fields]
                parts = write_records(self._rows(client, keys), place / "rows", columns=columns)
            yield parts

    def _rows(self, client: Redis, keys: Path) -> Iterator[Flat]:
        n_keys = pl.scan_parquet(keys).select(pl.len()).collect().item()
        for start in range(0, n_keys, _KEYS_PER_PART):
            some = pl.scan_parquet(keys).slice(start, _KEYS_PER_PART).collect()["key"].to_list()
            for first in range(0, len(some), SCAN_COUNT):
                yield from self._records(client, some[first : first + SCAN_COUNT])

    def _records(self, client: Redis, keys: Sequence[bytes]) -> Iterator[Flat]:
        kinds = _pipelined(client, [("TYPE", key) for key in keys])
        commands = [self._command(key, kind) for key, kind in zip(keys, kinds, strict=True)]
        present = [(key, command) for key, command in zip(keys, commands, strict=True) if command]
        answers = _pipelined(client, [command for _, command in present])
        for (key, command), answer in zip(present, answers, strict=True):
            if answer:
                yield self._row(_text(key, key), key, command[0], answer)

    def _command(self, key: bytes, kind: bytes) -> tuple[Any, ...] | None:
        if kind == b"hash":
            if self._spec.fields is None:
                return ("HGETALL", key)
            return ("HMGET", key, *self._spec.fields)
        if kind == b"string":
            return ("GET", key)
        if kind == b"none":
            return None
        raise self._odd(key, f"is a {kind.decode()}, neither a hash nor a string")

    def _row(self, name: str, key: bytes, verb: str, answer: Any) -> Flat:
        if verb == "GET":
            values = self._document(key, answer)
        elif verb == "HMGET":
            found = zip(self._spec.fields or (), answer, strict=True)
            values = {field: _text(value, key) for field, value in found}
        else:
            # a large hash gives its fields in an order that changes with every start of the server
            values = dict(sorted((_text(f, key), _text(v, key)) for f, v in answer.items()))
        if self._spec.key is None:
            return values
        if self._spec.key in values:
            raise self._odd(
                key, f"has a field {self._spec.key!r}, which is the name of the key column"
            )
        return {self._spec.key: name, **values}

    def _document(self, key: bytes, answer: bytes) -> Flat:
        try:
            values = flat_record(msgspec.json.decode(answer, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError) as cause:
            raise self._odd(key, "holds no JSON object") from cause
        if self._spec.fields is None:
            return values
        return {field: values.get(field) for field in self._spec.fields}

    def _odd(self, key: bytes, message: str) -> InvalidInputError:
        return InvalidInputError(
            f"The key {key.decode(errors='replace')[:200]!r} {message}.",
            hint="Choose a pattern that matches only hashes and strings of JSON objects, or "
            "another name for the key column.",
            field="data.source.pattern",
            value=self._spec.pattern,
        )

    @contextmanager
    def _client(self) -> Iterator[Redis]:
        try:
            import redis
        except ImportError as cause:
            raise BackendError(
                "Reading Redis needs the redis library, which is not installed.",
                hint="Install it: pip install 'loopwright[redis]'",
            ) from cause
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                decode_responses=False,
            )
        except ValueError:
            # the cause would show the URL with its password, so it is not kept
            raise _bad_url(self._spec.url) from None
        try:
            yield client
        except redis.exceptions.AuthenticationError as cause:
            raise self._failed(
                cause, "Correct user and password in the URL.", retryable=False
            ) from cause
        except redis.exceptions.NoPermissionError as cause:
            raise self._failed(
                cause, "Let this user SCAN, TYPE, HGETALL, HMGET and GET.", retryable=False
            ) from cause
        except redis.exceptions.RedisError as cause:
            raise self._failed(
                cause, "Check that it runs and that host and port are right.", retryable=True
            ) from cause
        finally:
            client.close()

    def _failed(self, cause: Exception, hint: str, *, retryable: bool) -> BackendError:
        reason = str(cause).partition("\n")[0].rstrip(".")
        secret = _password(self._url)
        reason = reason.replace(secret, "***") if secret else reason
        return BackendError(
            f"Redis at {_place(self._url)} cannot be read: {reason}.",
            hint=hint,
            retryable=retryable,
            field="data.source.url",
        )


def _sorted_keys(client: Redis, pattern: str, place: Path) -> Path:
    """Write the keys that match, sorted and each once, and return the file."""
    folder = place / "keys"
    folder.mkdir()
    found: list[bytes] = []
    n_parts = 0
    for key in client.scan_iter(match=pattern, count=SCAN_COUNT):
        found.append(key)
        if len(found) == _KEYS_PER_PART:
            _write_keys(found, folder / f"part-{n_parts:06}.parquet")
            found, n_parts = [], n_parts + 1
    _write_keys(found, folder / f"part-{n_parts:06}.parquet")
    whole = place / "keys.parquet"
    pl.scan_parquet(folder / "*.parquet").unique().sort("key").sink_parquet(whole)
    return whole


def _write_keys(keys: Sequence[bytes], path: Path) -> None:
    pl.DataFrame({"key": keys}, schema={"key": pl.Binary}).write_parquet(path)


def _pipelined(client: Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute()


def _text(value: bytes | None, key: bytes) -> Any:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as cause:
        raise InvalidInputError(
            f"The key {key.decode(errors='replace')[:200]!r} or a value in it is not UTF-8 text.",
            hint="Name the `fields` that are text, or choose another pattern.",
            field="data.source.fields",
        ) from cause


def _checked_url(text: str, environ: Mapping[str, str]) -> str:
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise InvalidInputError(
                f"The environment variable {name}, which should hold the address of Redis, is not "
                "set.",
                hint=f"Set it: export {name}=redis://:password@host:6379/0",
                field="data.source.url",
                value=text,
            )
        text = environ[name]
    if not text.startswith(_SCHEMES):
        raise _bad_url(text)
    return text


def _bad_url(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"{without_password(text).partition('://')[0]!r} does not begin an address of Redis, or "
        "the rest of it is no address.",
        hint="Write redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket.",
        field="data.source.url",
    )


def _place(url: str) -> str:
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0].rpartition("@")[2]
    return place if scheme != "unix" else f"socket {place}"


def _password(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""
