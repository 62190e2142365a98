"""Sources that other installed packages bring, through the entry point group `loopwright.source`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.core.names import did_you_mean
from loopwright.data.source import PluginSource, Source

GROUP = "loopwright.source"
_METHODS = ("describe", "fingerprint", "schema", "batches", "check")


def open_plugin(spec: PluginSource, base: Path, *, environ: Mapping[str, str]) -> Source:
    """Return the source that the named plugin opens.

    The entry point is a function `(options, base)`, where `options` is a dict with secrets filled
    in and `base` the folder of the loop file. `loopwright.testing.data_source` holds the tests that
    what it returns has to pass; it must not show secrets in `describe` or in errors.

    Raises
    ------
    InvalidInputError
        If there is no such plugin, or a variable it is to be given is not set.
    BackendError
        If the plugin cannot be imported, fails, or returns something else than a source.
    """
    plugin = _found(spec.name)
    options = {name: _resolved(value, environ, name) for name, value in spec.options.items()}
    try:
        source = plugin.load()(options, base)
    except LoopwrightError:
        raise
    except Exception as cause:
        # the text of a foreign error may hold what the options hold, so only its kind is told
        raise BackendError(
            f"The source {spec.name!r} ({plugin.value}) fails when it is opened: "
            f"{type(cause).__name__}.",
            hint="See the documentation of the package that brings it.",
            field="data.source.name",
        ) from None
    missing = [name for name in _METHODS if not callable(getattr(source, name, None))]
    if missing:
        raise BackendError(
            f"The source {spec.name!r} ({plugin.value}) lacks {', '.join(missing)}.",
            hint="Its package has to be brought up to date with loopwright.data.Source.",
            field="data.source.name",
        )
    return source  # type: ignore[no-any-return]


def _found(name: str) -> EntryPoint:
    known = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    if name not in known:
        raise InvalidInputError(
            f"No installed package brings a source named {name!r}.",
            hint=did_you_mean(name, known) if known else "Install the package that brings it.",
            field="data.source.name",
            value=name,
        )
    return known[name]


def _resolved(value: Any, environ: Mapping[str, str], place: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(each, environ, f"{place}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, environ, place) for each in value]
    if not isinstance(value, str) or not value.startswith("env:"):
        return value
    name = value.removeprefix("env:")
    if not environ.get(name):
        raise InvalidInputError(
            f"The environment variable {name}, which should hold {place}, is not set.",
            hint=f"Set it: export {name}=...",
            field=f"data.source.options.{place}",
            value=value,
        )
    return environ[name]
