"""Requests made from the shapes of AWS's service model, right ones and spoilt ones, by a seed."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from loopwright.sagemaker.model import pattern

_DEEPEST = 12
_ODD_TEXTS = (
    "",
    " ",
    "\u0000",
    "../../etc/passwd",
    "s3://",
    "s3:///x",
    "s3://no-such-bucket/../x",
    "arn:aws:sagemaker:us-east-1:123456789012:model/",
    "arn:aws:sagemaker:us-east-1:999999999999:pipeline/other/execution/abcdefghijkl",
    "Robert'); drop table records;--",
    "{name}%s%n",
    "\U0001f600" * 3,
    "a" * 300,
    "a" * 70_000,
    "-1",
    "NaN",
    "{}",
    "[[[[",
    "$[",
    "(a+)+$",
    "cron(61 * ? * * *)",
    "P1000000000Y",
)
_ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 63,
    -(1 << 63) - 1,
    1e308,
    -0.0,
    "",
    "1",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"a": {"b": {"c": [1]}}},
    253402300800,
    -62135596801,
)


class Maker:
    """Makes values for shapes.

    Parameters
    ----------
    seed
        The same seed makes the same values.
    texts
        What a text is taken from where the pattern of its shape allows it: names of what is there,
        addresses, ARNs.
    """

    def __init__(self, seed: int, texts: tuple[str, ...]) -> None:
        self.random = Random(seed)
        self._texts = texts
        self._fitting: dict[int, tuple[str, ...]] = {}

    def request(self, shape: Any, *, share: float) -> dict[str, Any]:
        """Return a request that the shape allows; of what may be left out, `share` is there."""
        made = self._structure(shape, 0, share) if shape is not None else {}
        return made if isinstance(made, dict) else {}

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a request in which one to three values are others."""
        found: dict[str, Any] = _copied(request)
        for _ in range(self.random.randint(1, 3)):
            places = list(_places(found))
            if not places:
                break
            holder, at = self.random.choice(places)
            self._spoil(holder, at)
        if self.random.random() < 0.1:
            found["NoSuchMember"] = {"x": [1, 2]}
        return found

    def _spoil(self, holder: Any, at: Any) -> None:
        value = holder[at]
        kind = self.random.random()
        if isinstance(value, str) and kind < 0.6:
            holder[at] = self.random.choice(_ODD_TEXTS)
        elif isinstance(value, list) and value and kind < 0.5:
            holder[at] = value * self.random.choice((2, 30, 300))
        elif isinstance(value, dict) and value and kind < 0.5:
            holder[at] = {key: each for key, each in value.items() if self.random.random() < 0.5}
        else:
            holder[at] = _copied(self.random.choice(_ODD_VALUES))

    def _value(self, shape: Any, depth: int, share: float) -> Any:
        made: dict[str, Any] = {
            "structure": self._structure,
            "list": self._list,
            "map": self._map,
        }
        kind = shape.type_name
        if kind in made:
            return made[kind](shape, depth + 1, share)
        if kind == "string":
            return self._text(shape)
        if kind in ("integer", "long"):
            return self._number(shape)
        if kind in ("float", "double"):
            low = float(shape.metadata.get("min", 0))
            high = float(shape.metadata.get("max", low + 10))
            return self.random.choice((low, high, self.random.uniform(low, high)))
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "timestamp":
            return int(time.time()) + self.random.choice((-86_400, -1, 0, 86_400))
        return base64.b64encode(b"1,2,3").decode()

    def _structure(self, shape: Any, depth: int, share: float) -> Any:
        if depth > _DEEPEST:
            return None
        required = set(shape.required_members)
        members = list(shape.members.items())
        if shape.metadata.get("union") or getattr(shape, "is_tagged_union", False):
            members = [self.random.choice(members)] if members else []
            required = {name for name, _ in members}
        found: dict[str, Any] = {}
        for name, each in members:
            if name not in required and self.random.random() > share / (1 + depth / 2):
                continue
            value = self._value(each, depth, share)
            if value is not None:
                found[name] = value
            elif name in required:
                return None
        return found

    def _list(self, shape: Any, depth: int, share: float) -> Any:
        least = shape.metadata.get("min", 0)
        most = min(shape.metadata.get("max", 3), max(least, 2))
        n_items = self.random.randint(least, max(least, most))
        found = [self._value(shape.member, depth, share) for _ in range(n_items)]
        kept = [each for each in found if each is not None]
        return kept if len(kept) >= least else None

    def _map(self, shape: Any, depth: int, share: float) -> Any:
        found = {}
        for _ in range(self.random.randint(shape.metadata.get("min", 0), 2)):
            key, value = self._text(shape.key), self._value(shape.value, depth, share)
            if key is not None and value is not None:
                found[key] = value
        return found

    def _text(self, shape: Any) -> str | None:
        if shape.enum:
            return str(self.random.choice(shape.enum))
        fitting = self._fitting.get(id(shape))
        if fitting is None:
            fitting = self._fitting[id(shape)] = tuple(
                each for each in self._texts if _fits(shape, each)
            )
        return self.random.choice(fitting) if fitting else None

    def _number(self, shape: Any) -> int:
        low = int(shape.metadata.get("min", 0))
        high = int(shape.metadata.get("max", low + 20))
        # large counts ask for machines that nobody has; small ones go further
        return self.random.choice((low, low, min(low + 1, high), high))


def _fits(shape: Any, text: str) -> bool:
    about: Mapping[str, Any] = shape.metadata
    if not about.get("min", 0) <= len(text) <= about.get("max", 1 << 20):
        return False
    known = pattern(about["pattern"]) if about.get("pattern") else None
    return known is None or known.fullmatch(text) is not None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for at, each in pairs:
        yield value, at
        yield from _places(each)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value
