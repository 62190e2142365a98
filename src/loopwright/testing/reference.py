"""The reference of the loop file: keys, types and defaults from the code, meanings beside them.

    python -m loopwright.testing.reference > docs/reference/loop-file.md

Types, defaults, metrics and functions are read from the code; a meaning
stands in the docstring of its struct where that has one, else in `section` or in a table below. A key, metric or
function without a meaning, and a meaning without a key, stop the generation.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from loopwright.prepare.function import FUNCTIONS, OPERATORS
from loopwright.problem import METRIC_EXAMPLES, METRICS, metric_named
from loopwright.testing.section import SECTIONS, Section

Table = list[tuple[str, ...]]


METRIC_MEANINGS = {
    "mae": "mean absolute error, in the unit of the target",
    "medae": "median absolute error, in the unit of the target",
    "absolute_error_of_95_percent": "the error that 95 % of the answers stay within; any percentage "
    "can stand in place of 95",
    "mape": "mean of \\|error\\| / \\|truth\\|; 0.15 is 15 %",
    "smape": "mean of 2 \\|error\\| / (\\|truth\\| + \\|answer\\|)",
    "wape": "sum of \\|error\\| / sum of \\|truth\\|",
    "rmse": "root of the mean squared error, in the unit of the target",
    "rmsle": "the same of ln(1 + value); for targets of 0 and more",
    "r2": "share of the variance explained; 0 is no better than the mean",
    "pinball_at_90_percent": "loss of an answer that is to be exceeded in 10 % of the rows; any "
    "percentage can stand in place of 90",
    "share_within_5_percent": "share of answers at most 5 % off; any number can stand in place of 5",
    "accuracy": "share of right answers",
    "top_3_accuracy": "share of rows whose class is among the 3 most probable; any number can stand in "
    "place of 3",
    "log_loss": "mean of -ln(probability given to the true class)",
    "brier": "mean squared error of the probability",
    "precision": "share of the positives named that are positive",
    "recall": "share of the positives that are named",
    "specificity": "share of the negatives that are left alone",
    "negative_predictive_value": "share of those left alone that are negative",
    "false_positive_rate": "share of the negatives that are named",
    "f1": "harmonic mean of precision and recall",
    "macro_f1": "mean of f1 over the classes",
    "weighted_f1": "the same, each class weighing by its rows",
    "macro_precision": "mean of precision over the classes",
    "balanced_accuracy": "mean of recall over the classes",
    "mcc": "correlation of the classes said and true (Matthews); 0 is chance",
    "cohen_kappa": "agreement beyond chance; 0 is chance",
    "roc_auc": "probability that a positive ranks above a negative",
    "average_precision": "mean precision over the ranks of the positives; chance is their share",
    "precision_at_top_10_percent": "share of positives among the 10 % ranked highest; any percentage "
    "can stand in place of 10",
    "lift_in_top_decile": "how many times the average share of positives the top 10 % have",
    "profit_per_case": "mean of what each outcome earns by `problem.payoff`",
    "expected_profit_per_thousand": "what a thousand cases earn by `problem.payoff`",
    "cost_per_case": "mean of what each outcome costs by `problem.payoff`",
}

FUNCTION_MEANINGS = {
    "+": "sum",
    "-": "difference",
    "*": "product",
    "/": "quotient; missing where b is 0",
    "%": "rest of a division, with the sign of b; missing where b is 0",
    "**": "power; the exponent is a whole number from 1 to 8",
    "negative": "the number with the other sign",
    "==": "whether both are equal",
    "!=": "whether they differ",
    "<": "whether a is smaller; dates and text compare too",
    "<=": "whether a is smaller or equal",
    ">": "whether a is greater",
    ">=": "whether a is greater or equal",
    "and": "whether both hold",
    "or": "whether one of them holds",
    "not": "whether a does not hold",
    "abs": "the number without its sign",
    "ceil": "next whole number up",
    "floor": "next whole number down",
    "round": "rounded, halves to even; with 0 to 9 digits",
    "exp": "e to the power of a; missing where too large",
    "log": "natural logarithm; missing where a is not above 0",
    "log1p": "ln(1 + a); missing where a is not above -1",
    "sqrt": "square root; missing where a is below 0",
    "min": "the smallest",
    "max": "the greatest",
    "year": "year, such as 2026",
    "month": "month, 1 to 12",
    "day": "day of the month, 1 to 31",
    "weekday": "day of the week, 1 (Monday) to 7",
    "day_of_year": "day of the year, 1 to 366",
    "days_between": "days from the first to the second date",
    "lower": "in small letters",
    "upper": "in capital letters",
    "length": "number of characters",
    "contains": "whether the text holds the part",
    "concat": "texts put together",
    "if": "the second where the condition holds, else the third",
    "coalesce": "the first that is not missing",
    "is_missing": "whether it is missing",
    "null_if": "missing where a equals the value, else a",
}

_HEAD = """\
# The loop file

One file describes a loop: the problem, the data, the criteria and the policies. It is YAML; unknown
keys, wrong types and values out of range are refused with the line, the key and the nearest right
one. `loopwright init` writes a first one.

Written by `python -m loopwright.testing.reference` from the code, and compared with it by a test: change
it there.
"""

_ALGORITHMS = """\
## Algorithms

Names for `train.algorithms` and all their hyperparameters: [algorithms](algorithms.md).
"""

_LANGUAGE = """\
## The language of `derive`

An expression is made of columns by name, numbers, `"text"`, `true`-or-false comparisons, the operators
and functions below, `in ("a", "b")`, `today()`, `date("2026-01-31")` and `column("a name with spaces")`.
A missing operand makes the result missing, unless the line says otherwise. It is never run as
Python. The same expression is computed for the training table and for each request, to the last bit.
"""


def loop_file_reference() -> str:
    """Return the reference of the loop file as Markdown.

    Raises
    ------
    AssertionError
        If a key, metric or function has no meaning, or a meaning belongs to nothing.
    """
    parts = [_HEAD]
    for section in SECTIONS:
        parts += [_heading(section), *paragraphs_of(section.struct), _keys(section)]
    parts += ["## Metrics\n", _metrics(), _ALGORITHMS]
    parts += [_LANGUAGE, _functions()]
    return "\n".join(parts)


def field_meanings(section: Section) -> dict[str, str]:
    """Return what each key of a block means: from the struct's docstring, else from `meanings`."""
    documented = _parameters(inspect.getdoc(section.struct) or "")
    twice = documented.keys() & section.meanings.keys()
    assert not twice, f"{section.path}: the docstring explains {sorted(twice)} already"
    found = {**documented, **section.meanings}
    keys = [field.encode_name for field in msgspec.structs.fields(section.struct)]
    check_same(found, keys, section.path)
    check_same(section.examples, keys, f"examples of {section.path}")
    return {key: found[key] for key in keys}


def check_same(given: Mapping[str, object], wanted: typing.Iterable[str], place: str) -> None:
    """Stop unless exactly what is wanted is explained."""
    lacking, useless = set(wanted) - set(given), set(given) - set(wanted)
    assert not lacking, f"{place}: nothing is said about {sorted(lacking)}"
    assert not useless, f"{place}: there is no {sorted(useless)}"


def _heading(section: Section) -> str:
    level = "##" if "." not in section.path else "###"
    name = section.path if section.path == "the file" else f"`{section.path}`"
    return f"{level} {name[0].upper() + name[1:]}\n\n{section.about}\n"


def first_sentence(kind: type) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def paragraphs_of(struct: type) -> list[str]:
    """Return what a docstring says between its first line and its sections."""
    body = (inspect.getdoc(struct) or "").partition("\n\n")[2]
    prose = re.split(r"^\w+\n-{3,}$", body, maxsplit=1, flags=re.MULTILINE)[0].strip()
    return [f"{prose}\n"] if prose else []


def _parameters(docstring: str) -> dict[str, str]:
    """Return the entries of the Parameters section of a docstring, each on one line."""
    _, found, rest = docstring.partition("Parameters\n----------\n")
    if not found:
        return {}
    section = re.split(r"^\w+\n-{3,}$", rest, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.findall(r"^(\w+)\n((?:    .*\n?|\n)+)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _keys(section: Section) -> str:
    meanings = field_meanings(section)
    hints = typing.get_type_hints(section.struct, include_extras=True)
    rows: Table = [
        (
            f"`{field.encode_name}`",
            type_of(hints[field.name]),
            default_of(field),
            meanings[field.encode_name],
            f"`{section.examples[field.encode_name]}`",
        )
        for field in msgspec.structs.fields(section.struct)
    ]
    return markdown_table(("key", "type", "default", "meaning", "example"), rows)


_WORDS: dict[Any, str] = {
    str: "text",
    float: "number",
    int: "whole number",
    bool: "true or false",
    object: "any value",
}


def type_of(hint: Any) -> str:
    """Return a type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        # a whole number is a number too
        words = [type_of(each) for each in arguments if each is not type(None)]
        return " or ".join(
            word for word in words if (word, "number" in words) != ("whole number", True)
        )
    if origin in (tuple, list):
        return f"list of {type_of(arguments[0])}"
    if origin in (dict, Mapping):
        return f"map to {type_of(arguments[1])}"
    paths = [section.path for section in SECTIONS if section.struct is hint]
    return f"[block](#{_anchor(paths[0])})"


def _anchor(path: str) -> str:
    return re.sub(r"[^\w -]", "", path.lower()).replace(" ", "-")


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Return the default of a key in words."""
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        value = field.default
    if value is None or isinstance(value, msgspec.Struct):
        return "none" if value is None else "its defaults"
    if value == "":
        return "empty"
    return f"`{msgspec.json.encode(value).decode()}`".replace(",", ", ").replace('"', "")


def _metrics() -> str:
    check_same(METRIC_MEANINGS, [*METRICS, *METRIC_EXAMPLES], "metrics")
    rows: Table = []
    for name, meaning in METRIC_MEANINGS.items():
        metric = metric_named(name, payoff={"true_positive": 1.0})
        rows.append(
            (
                f"`{name}`",
                ", ".join(sorted(metric.tasks, key=len)),
                "`at_least`" if metric.higher_is_better else "`at_most`",
                meaning,
            )
        )
    return markdown_table(("metric", "tasks", "criterion", "meaning"), rows)


def _functions() -> str:
    functions = {**OPERATORS, **FUNCTIONS}
    check_same(FUNCTION_MEANINGS, functions, "functions")
    rows: Table = [
        (f"`{function.shape}`", _takes(function.accepts), function.gives, FUNCTION_MEANINGS[name])
        for name, function in functions.items()
    ]
    return markdown_table(("written", "takes", "gives", "result"), rows)


def _takes(accepts: tuple[str, ...]) -> str:
    return ", ".join(
        {"same": "any, of one type"}.get(kind, kind) for kind in dict.fromkeys(accepts)
    )


def markdown_table(header: tuple[str, ...], rows: Table) -> str:
    """Return a table as Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(loop_file_reference())
