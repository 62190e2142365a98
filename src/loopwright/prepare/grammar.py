"""Reading the text of an expression into a checked tree.

Python's own parser reads the text, and an allow-list turns its tree into ours; nothing of the text
is ever run as Python.
"""

from __future__ import annotations

import ast
import io
import math
import tokenize
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from itertools import pairwise
from typing import Any, NoReturn, cast

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare.function import FUNCTIONS, OPERATORS, Accepts, ColumnType, Function, Type
from loopwright.prepare.node import Apply, Column, Literal, Node, Today, to_python

MAX_LENGTH = 1_000
MAX_DEPTH = 64

_SPECIAL = {"today": "today()", "date": 'date("2026-01-31")', "column": 'column("name")'}
_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "and",
    ast.Or: "or",
}


def read_expression(text: str, columns: Mapping[str, ColumnType]) -> Node:
    """Return the checked tree of `text`; see `expression.parse_expression`."""
    return _Reader(text, columns).read()


class _Reader:
    """Reads one text; every method takes a Python node and returns ours."""

    def __init__(self, text: str, columns: Mapping[str, ColumnType]) -> None:
        self.text = text
        self.columns = columns
        self.depth = 0

    def fail(
        self, message: str, node: ast.AST | None = None, *, hint: str = "", **facts: Any
    ) -> NoReturn:
        position = None
        if node is not None and hasattr(node, "col_offset"):
            # Python counts bytes of UTF-8; people count characters
            position = len(self.source.encode()[: node.col_offset].decode(errors="ignore")) + 1
            position += self.indent
        place = f" at character {position}" if position else ""
        raise InvalidInputError(
            f"In the expression {self.text[:200]!r}{place}: {message}",
            hint=hint,
            position=position,
            value=self.text[:MAX_LENGTH],
            **facts,
        )

    def read(self) -> Node:
        self.source = self.text
        if not isinstance(self.text, str) or not self.text.strip():
            self.fail("there is nothing to compute.", hint="Write for instance 'price / area'.")
        if len(self.text) > MAX_LENGTH:
            self.fail(
                f"it has {len(self.text)} characters; {MAX_LENGTH} is the most.",
                hint="Split it into several derived columns.",
            )
        # line breaks would shift positions
        flat = self.text.replace("\n", " ").replace("\r", " ")
        self.source = _with_if_as_name(flat.strip())
        self.indent = len(flat) - len(flat.lstrip())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.source, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as cause:
            place = f" near character {cause.offset}" if isinstance(cause, SyntaxError) else ""
            raise InvalidInputError(
                f"The expression {self.text[:200]!r} cannot be read{place}.",
                hint="Check brackets, quotes and operators; equality is written ==.",
                position=getattr(cause, "offset", None),
                value=self.text,
            ) from cause
        return self.node(tree.body)

    def node(self, node: ast.AST) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(
                f"it is nested more than {MAX_DEPTH} deep.",
                node,
                hint="Split it into several derived columns.",
            )
        reader = _READERS.get(type(node))
        if reader is None:
            self.fail(
                f"{type(node).__name__.lower()!r} is not part of the language.",
                node,
                hint="Use columns, numbers, text, + - * / % **, comparisons, and/or/not and functions.",
            )
        result = reader(self, node)
        self.depth -= 1
        return result

    def name(self, node: ast.Name) -> Node:
        return self.column(node.id, node)

    def column(self, name: str, node: ast.AST) -> Node:
        if name not in self.columns:
            self.fail(
                f"there is no column {name!r}.",
                node,
                hint=did_you_mean(name, self.columns),
                field=name,
            )
        stored = self.columns[name]
        return Column(name, "date" if stored == "time" else stored)

    def constant(self, node: ast.Constant) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Literal(value, "boolean")
        if isinstance(value, str):
            return Literal(value, "text")
        if isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return Literal(number, "number")
            self.fail("the number is too large.", node)
        return self.fail(f"{value!r} is not a number or text.", node)

    def unary(self, node: ast.UnaryOp) -> Node:
        operand = self.node(node.operand)
        if isinstance(node.op, ast.Not):
            return self.apply(OPERATORS["not"], (operand,), node)
        if isinstance(node.op, ast.USub):
            return self.apply(OPERATORS["negative"], (operand,), node)
        if isinstance(node.op, ast.UAdd) and operand.type == "number":
            return operand
        return self.fail("only - and not can stand before a value.", node)

    def binary(self, node: ast.BinOp) -> Node:
        sign = _SIGNS.get(type(node.op))
        if sign is None:
            self.fail(
                f"the operator {type(node.op).__name__} is not part of the language.",
                node,
                hint="Use + - * / % or **.",
            )
        return self.apply(OPERATORS[sign], (self.node(node.left), self.node(node.right)), node)

    def logic(self, node: ast.BoolOp) -> Node:
        parts = [self.node(value) for value in node.values]
        return self.joined(OPERATORS[_SIGNS[type(node.op)]], parts, node)

    def joined(self, function: Function, parts: list[Node], node: ast.AST) -> Node:
        """Return a function of two as one of many: a balanced tree, so that it is never deep."""
        if len(parts) == 1:
            return parts[0]
        half = len(parts) // 2
        first = self.joined(function, parts[:half], node)
        return self.apply(function, (first, self.joined(function, parts[half:], node)), node)

    def compare(self, node: ast.Compare) -> Node:
        left = self.node(node.left)
        found: list[Node] = []
        for sign, comparator in zip(node.ops, node.comparators, strict=True):
            one, left = self.comparison(left, sign, comparator, node)
            found.append(one)
        return self.joined(OPERATORS["and"], found, node)

    def comparison(
        self, left: Node, sign: ast.cmpop, comparator: ast.AST, node: ast.AST
    ) -> tuple[Node, Node]:
        if isinstance(sign, ast.In | ast.NotIn):
            found = self.membership(left, comparator)
            inside = isinstance(sign, ast.In)
            return (found if inside else self.apply(OPERATORS["not"], (found,), node)), left
        if type(sign) not in _SIGNS:
            self.fail(
                "only ==, !=, <, <=, >, >= and in can compare.",
                node,
                hint="Ask is_missing(column) where Python would write 'is None'.",
            )
        right = self.node(comparator)
        return self.apply(OPERATORS[_SIGNS[type(sign)]], (left, right), node), right

    def membership(self, left: Node, values: ast.AST) -> Node:
        if not isinstance(values, ast.Tuple | ast.List) or not values.elts:
            self.fail("after 'in' comes a list of values.", values, hint='Write x in ("a", "b").')
        return self.joined(
            OPERATORS["or"],
            [self.apply(OPERATORS["=="], (left, self.node(value)), value) for value in values.elts],
            values,
        )

    def call(self, node: ast.Call) -> Node:
        known = [*FUNCTIONS, *_SPECIAL]
        if not isinstance(node.func, ast.Name):
            self.fail("only functions known by name can be called.", node, hint=_listed(known))
        name = {"IF": "if"}.get(node.func.id, node.func.id)
        if name not in known:
            self.fail(
                f"there is no function {name!r}.",
                node,
                hint=f"{did_you_mean(name, known)} {_listed(known)}",
                field=name,
            )
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            self.fail(f"{name}() takes plain values only.", node)
        if name in _SPECIAL:
            return self.special(name, node)
        arguments = [self.node(value) for value in node.args]
        if FUNCTIONS[name].in_pairs and len(arguments) > 2:
            return self.joined(FUNCTIONS[name], arguments, node)
        return self.apply(FUNCTIONS[name], tuple(arguments), node)

    def special(self, name: str, node: ast.Call) -> Node:
        values = [value.value for value in node.args if isinstance(value, ast.Constant)]
        if name == "today" and not node.args:
            return Today()
        if name != "today" and len(node.args) == 1 and values and isinstance(values[0], str):
            return self.column(values[0], node) if name == "column" else self.date(values[0], node)
        return self.fail(f"{name} is written {_SPECIAL[name]}.", node)

    def date(self, text: str, node: ast.AST) -> Node:
        try:
            return Literal(date.fromisoformat(text), "date")
        except ValueError:
            return self.fail(f"{text!r} is not a date.", node, hint='Write date("2026-01-31").')

    def apply(self, function: Function, arguments: tuple[Node, ...], node: ast.AST) -> Node:
        """Return `function` of `arguments`, computed at once if all of them are written out."""
        wanted = self.accepted(function, len(arguments), node)
        if "same" in wanted:
            arguments = self.with_dates(arguments, wanted, node)
        same = {a.type for a, want in zip(arguments, wanted, strict=True) if want == "same"}
        same -= {"unknown"} if len(same) > 1 else set()
        wrong = next(
            (
                (a.type, want)
                for a, want in zip(arguments, wanted, strict=True)
                if want not in (a.type, "any", "same") and a.type != "unknown"
            ),
            None,
        )
        if wrong or len(same) > 1:
            problem = (
                f"{function.shape} needs a {wrong[1]}, not a {wrong[0]}."
                if wrong
                else f"{function.shape} needs values of one type, not a {' and a '.join(sorted(same))}."
            )
            self.fail(problem, node, hint=_REMEDY.get(wrong, "") if wrong else "")
        if function.whole and len(arguments) == 2:
            self.check_whole(function, arguments[1], node)
        gives = function.gives if function.gives not in ("same", "any") else same.pop()
        applied = Apply(function, arguments, cast("Type", gives))
        if all(isinstance(argument, Literal) for argument in arguments):
            return Literal(to_python(applied, str)({}), applied.type)
        return applied

    def accepted(self, function: Function, n: int, node: ast.AST) -> tuple[Accepts, ...]:
        least = len(function.accepts) - function.n_optional
        if n < least or (n > len(function.accepts) and not function.n_more):
            self.fail(f"it is written {function.shape}; {n} values were given.", node)
        more = (function.accepts[-1],) * (n - len(function.accepts))
        return (function.accepts + more)[:n]

    def with_dates(
        self, arguments: tuple[Node, ...], wanted: tuple[Accepts, ...], node: ast.AST
    ) -> tuple[Node, ...]:
        """Read text written out beside a date as a date."""
        same = [a for a, want in zip(arguments, wanted, strict=True) if want == "same"]
        if not any(a.type == "date" for a in same):
            return arguments
        return tuple(
            self.date(a.value, node)
            if want == "same" and isinstance(a, Literal) and isinstance(a.value, str)
            else a
            for a, want in zip(arguments, wanted, strict=True)
        )

    def check_whole(self, function: Function, argument: Node, node: ast.AST) -> None:
        low, high = function.whole or (0, 0)
        value = argument.value if isinstance(argument, Literal) else None
        if not isinstance(value, float) or value != int(value) or not low <= value <= high:
            self.fail(
                f"in {function.shape} the second value is a whole number"
                f" from {low} to {high}, written out.",
                node,
            )


_READERS: dict[type[ast.AST], Callable[[_Reader, Any], Node]] = {
    ast.Name: _Reader.name,
    ast.Constant: _Reader.constant,
    ast.UnaryOp: _Reader.unary,
    ast.BinOp: _Reader.binary,
    ast.BoolOp: _Reader.logic,
    ast.Compare: _Reader.compare,
    ast.Call: _Reader.call,
}

_REMEDY: dict[tuple[str, str], str] = {
    ("number", "boolean"): "Write a comparison, such as 'waterfront != 0'.",
    ("boolean", "number"): "Write if(condition, 1, 0) to count with a condition.",
}


def _listed(known: list[str]) -> str:
    return "Functions: " + ", ".join(sorted(known)) + "."


def _with_if_as_name(text: str) -> str:
    """Write `if(` as `IF(`, which Python reads as a call; every position stays the same."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return text
    characters = list(text)
    for token, following in pairwise(tokens):
        if token.type == tokenize.NAME and token.string == "if" and following.string == "(":
            start = token.start[1]
            characters[start : start + 2] = "IF"
    return "".join(characters)
