from collections.abc import Callable
from typing import Any

VERSION: int

def linked(scores: Any, link: str, n_outputs: int, /) -> None: ...

class Trees:
    def __init__(
        self,
        *,
        feature: Any,
        left: Any,
        right: Any,
        threshold: Any,
        missing_left: Any,
        zero_missing: Any,
        value: Any,
        roots: Any,
        outputs: Any,
        base: Any,
        n_features: int,
        single_sums: bool,
        single_features: bool,
        or_equal: bool,
        averaged: bool,
    ) -> None: ...
    def score(self, features: Any, scores: Any, /) -> None: ...

class Linear:
    def __init__(self, *, coefficients: Any, intercepts: Any) -> None: ...
    def score(self, features: Any, scores: Any, /) -> None: ...

class Points:
    def __init__(self, *, points: Any, n_features: int) -> None: ...
    def nearest(
        self, features: Any, first: int, end: int, k: int, places: Any, squared: Any, /
    ) -> None: ...

class Plan:
    def __init__(
        self,
        *,
        fields: list[tuple[Any, ...]],
        instructions: list[tuple[str, int, int, int, Any, Any, float, float]],
        features: list[int],
        n_registers: int,
        refuses_unknown: bool,
        target: str | None,
        scorer: Any,
        numbers: Callable[[bytes, int], Any],
        link: str,
        task: str,
        n_outputs: int,
        threshold: float,
        classes: tuple[bytes, ...],
        after: bytes,
        version: bytes,
        tail: bytes,
        encode: Callable[[Any], bytes],
    ) -> None: ...
    def answer(
        self, body: bytes, inference_id: str, at: str | None, today: Any, /
    ) -> tuple[bytes, bytes | None, int] | None: ...

class Rows:
    def __init__(
        self,
        *,
        fields: list[tuple[str, str, bool, Callable[[Any], Any], int, Callable[[Any], Any] | None]],
        instructions: list[tuple[str, int, int, int, Any, Any, float, float]],
        features: list[int],
        n_registers: int,
        refuses_unknown: bool,
        target: str | None,
    ) -> None: ...
    def read(self, rows: list[Any], today: Any, features: Any, /) -> list[dict[str, Any]] | int: ...
