"""The loop file: one file that describes the problem, the data, the criteria and the policies."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_origin

import msgspec

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.names import checked_name, did_you_mean, nearest
from loopwright.data import DataPlan
from loopwright.deploy import DeployPlan
from loopwright.evaluate import EvaluatePlan
from loopwright.loop.retrain_plan import RetrainPlan, check_retrain
from loopwright.monitor import MonitorPlan
from loopwright.prepare import PreparePlan, check_orders
from loopwright.problem import Problem, checked_task
from loopwright.train import TrainPlan
from loopwright.tune import TunePlan

_MAX_BYTES = 1 << 20
_MAX_ALIASES = 100
_PLACE = re.compile(r" - at `\$(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_VALUE = re.compile(r"Invalid (?:enum )?value '.*'$")
_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class DecidePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `decide:` block: how to go on once it is known whether a model is needed.

    Parameters
    ----------
    when_rule_is_enough
        `stop`: the rule is shown, and nothing is trained. `deploy`: it is judged on the test rows
        and served like a model.
    """

    when_rule_is_enough: Literal["stop", "deploy"] = "stop"


class LoopFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole loop, as its file states it."""

    name: str
    problem: Problem
    data: DataPlan
    decide: DecidePlan | None = None
    prepare: PreparePlan = PreparePlan()
    train: TrainPlan = TrainPlan()
    tune: TunePlan | None = None
    evaluate: EvaluatePlan | None = None
    deploy: DeployPlan | None = None
    monitor: MonitorPlan = MonitorPlan()
    retrain: RetrainPlan = RetrainPlan()

    def to_json(self) -> dict[str, Any]:
        """Return the file's content, defaults included, as JSON types."""
        # through bytes, so that tuples are lists as in what a store gives back
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A loop file as it was read: its content, where it lies, and the line (from 1) of every key."""

    path: Path
    content: LoopFile
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file start from."""
        return self.path.parent

    @contextmanager
    def telling_lines(self) -> Iterator[None]:
        """Give errors inside the line of the key that their fact `field` names."""
        with _with_lines(self.lines, self.path.name):
            yield


def read_loop_file(path: Path) -> ReadFile:
    """Return the loop in a file.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If it is no YAML, or a key, a type or a value is wrong: with the line, the key and the
        nearest right one.
    """
    path = path.resolve()
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        found = f"In that folder: {', '.join(beside[:5])}." if beside else ""
        raise NotFoundError(
            f"There is no loop file {str(path)!r}.",
            hint=f"{found} Run `loopwright init` to write one.".strip(),
            kind="loop file",
            name=str(path),
        )
    content, lines = _parsed(path.read_bytes(), name=path.name)
    return ReadFile(path=path, content=content, lines=lines)


def parse_loop_file(data: bytes, *, name: str = "loop.yaml") -> LoopFile:
    """Return the loop in a file's bytes; see `read_loop_file`."""
    return _parsed(data, name=name)[0]


def _parsed(data: bytes, *, name: str) -> tuple[LoopFile, dict[str, int]]:
    """Return the loop in a file's bytes, and the line (from 1) of every key."""
    value, lines = _parsed_yaml(data, name=name)
    try:
        loop = msgspec.convert(value, LoopFile, strict=True)
    except InvalidInputError as error:
        # of a value that checks itself, and does not know where it stands
        raise _placed(error, lines=lines, name=name) from error
    except msgspec.ValidationError as error:
        raise _explained(str(error), value=value, lines=lines, name=name) from error
    with _with_lines(lines, name):
        check_orders(loop.prepare)
        check_retrain(loop.retrain)
    checked_name(loop.name, what="loop")
    checked_task(loop.problem.task)
    return loop, lines


def _parsed_yaml(data: bytes, *, name: str) -> tuple[Any, dict[str, int]]:
    """Return the plain value in some YAML, and the line (from 1) of every key."""
    import yaml

    if len(data) > _MAX_BYTES:
        raise InvalidInputError(
            f"{name} has {len(data):,} bytes; a loop file has at most {_MAX_BYTES:,}.",
            hint="Put data into files of their own.",
            field=name,
            value=len(data),
        )
    try:
        text = data.decode("utf-8")
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
        if aliases > _MAX_ALIASES:
            raise InvalidInputError(
                f"{name} has {aliases} aliases; at most {_MAX_ALIASES} are read.",
                hint="Write the values out.",
                field=name,
                value=aliases,
            )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[str, int] = {}
        _note_lines(node, "", lines, name)
        value = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{name} is not UTF-8 text (byte {error.start}).",
            hint="Save it as UTF-8.",
            field=name,
            value=error.start,
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise InvalidInputError(
            f"{name}{place} is not YAML: {getattr(error, 'problem', None) or error}.",
            hint="Mind the indentation, and put text with a colon or quotes into quotes.",
            field=name,
            value=None,
        ) from error
    if not isinstance(value, dict):
        raise InvalidInputError(
            f"{name} does not hold keys and values.",
            hint="It starts with `name:`, `problem:` and `data:`; `loopwright init` writes one.",
            field=name,
            value=None,
        )
    return _plain(value), lines


def _plain(value: Any) -> Any:
    """Return the value with the dates that YAML makes of unquoted text as text again."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _note_lines(node: Any, path: str, lines: dict[str, int], name: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here = f"{path}.{key.value}"
            if here in lines:
                raise InvalidInputError(
                    f"{name}, line {key.start_mark.line + 1}: {here[1:]!r} stands there twice "
                    f"(first in line {lines[here]}).",
                    hint="Keep one of the two.",
                    field=here[1:],
                    value=None,
                )
            lines[here] = key.start_mark.line + 1
            _note_lines(child, here, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            here = f"{path}[{index}]"
            lines[here] = child.start_mark.line + 1
            _note_lines(child, here, lines, name)


def _explained(message: str, *, value: Any, lines: dict[str, int], name: str) -> InvalidInputError:
    """Return msgspec's complaint as ours: line, key, what was found and what to write."""
    place = _PLACE.search(message)
    path = place[1] if place else ""
    complaint = message[: place.start()] if place else message
    if match := _UNKNOWN.match(complaint):
        return _unknown_key(match[1], path=path, lines=lines, name=name)
    if match := _MISSING.match(complaint):
        inside = path[1:] or "the file"
        return InvalidInputError(
            f"{_at(path, lines, name)}{inside} lacks the key {match[1]!r}.",
            hint=f"Add `{match[1]}:`; docs/reference/loop-file.md says what it holds.",
            field=f"{path}.{match[1]}"[1:],
            value=None,
        )
    found = _value_at(value, path)
    if _VALUE.match(complaint) and isinstance(found, str):
        return _unknown_value(found, path=path, lines=lines, name=name)
    if match := _TYPE.match(complaint):
        complaint = f"{_in_words(match[1])} is expected"
    return InvalidInputError(
        f"{_at(path, lines, name)}{path[1:] or 'the file'} is {found!r}: {complaint}.",
        hint="docs/reference/loop-file.md has an example of every key.",
        field=path[1:],
        value=found if isinstance(found, str | int | float | bool) else None,
    )


def _placed(error: InvalidInputError, *, lines: Mapping[str, int], name: str) -> InvalidInputError:
    """Return an error about a key with where it stands, if only one key of the file is called so."""
    field = str(error.facts.get("field", ""))
    places = [path for path in lines if field and path.endswith(f".{field}")]
    if len(places) != 1:
        return error
    facts = {**error.facts, "field": places[0][1:]}
    said = error.message.replace(field, places[0][1:], 1)
    return InvalidInputError(f"{_at(places[0], lines, name)}{said}", hint=error.hint, **facts)


@contextmanager
def _with_lines(lines: Mapping[str, int], name: str) -> Iterator[None]:
    """Give errors inside the line of the key that their fact `field` names."""
    try:
        yield
    except InvalidInputError as error:
        path = f".{error.facts.get('field', '')}"
        if not any(path.startswith(key) for key in lines):
            raise
        raise InvalidInputError(
            f"{_at(path, lines, name)}{error.message}", hint=error.hint, **error.facts
        ) from error


def _unknown_key(key: str, *, path: str, lines: dict[str, int], name: str) -> InvalidInputError:
    known = _keys_at(path)
    match = nearest(key, known)
    return InvalidInputError(
        f"{_at(f'{path}.{key}', lines, name)}{path[1:] or 'the file'} has no key {key!r}.",
        hint=f"Did you mean {match!r}?" if match else f"It has: {', '.join(known)}.",
        field=f"{path}.{key}"[1:],
        value=key,
    )


def _unknown_value(found: str, *, path: str, lines: dict[str, int], name: str) -> InvalidInputError:
    """Return the error for a kind of block, or a word, that there is not."""
    known = _words_at(path)
    return InvalidInputError(
        f"{_at(path, lines, name)}{path[1:]} cannot be {found!r}.",
        hint=did_you_mean(found, known),
        field=path[1:],
        value=found,
    )


def _words_at(path: str) -> list[str]:
    """Return the words that a key may hold: kinds of blocks, or those of a choice."""
    place, _, key = path.rpartition(".")
    key = key.partition("[")[0]
    words: list[str] = []
    for struct in _structs_at(place):
        config = struct.__struct_config__
        if config.tag_field == key:
            words.append(str(config.tag))
        for each in msgspec.structs.fields(struct):
            if each.encode_name == key:
                words += _choices(each.type)
    return words


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [word for word in kind.__args__ if isinstance(word, str)]
    return [word for part in getattr(kind, "__args__", ()) for word in _choices(part)]


def _at(path: str, lines: Mapping[str, int], name: str) -> str:
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["))]
    return f"{name}, line {lines[path]}: " if path in lines else f"{name}: "


def _value_at(value: Any, path: str) -> Any:
    for key, index in _PART.findall(path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value


def _keys_at(path: str) -> list[str]:
    """Return the keys that the file may have at a path."""
    return sorted(
        {field.encode_name for kind in _structs_at(path) for field in msgspec.structs.fields(kind)}
    )


def _structs_at(path: str) -> list[Any]:
    kinds: list[Any] = [LoopFile]
    for key, _ in _PART.findall(path):
        following: list[Any] = []
        for kind in kinds:
            if key:
                following += [
                    field.type for field in msgspec.structs.fields(kind) if field.encode_name == key
                ]
            else:
                following.append(kind)
        kinds = [struct for kind in following for struct in _structs_in(kind)]
    return kinds


def _structs_in(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for part in getattr(kind, "__args__", ()) for struct in _structs_in(part)]


def _in_words(kind: str) -> str:
    words = {
        "str": "text",
        "float": "a number",
        "int": "a whole number",
        "bool": "true or false",
        "object": "a block of keys",
        "array": "a list",
    }
    return " or ".join(words.get(part.strip(), part.strip()) for part in kind.split("|"))
