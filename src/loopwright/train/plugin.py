"""Algorithms and predictors that other installed packages bring, through entry points.

`loopwright.algorithm` names objects or classes that are an `Algorithm`, `loopwright.predictor`
classes that are a `Predictor`, for algorithms whose models are not one of loopwright's own kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ALGORITHM_GROUP = "loopwright.algorithm"
PREDICTOR_GROUP = "loopwright.predictor"
_FEATURES = ("linear", "scaled", "tree")
_ALGORITHM_PARTS = ("name", "features", "hyperparameters", "library", "fit")
_PREDICTOR_PARTS = (
    "link",
    "n_features",
    "n_outputs",
    "score",
    "arrays",
    "meta",
    "from_parts",
    "predict_raw",
)


def algorithm_plugins() -> dict[str, EntryPoint]:
    """Return the algorithms that installed packages bring, by name; nothing is imported."""
    return {plugin.name: plugin for plugin in _plugins(ALGORITHM_GROUP)}


def predictor_plugins() -> dict[str, EntryPoint]:
    """Return the kinds of predictors that installed packages bring; nothing is imported."""
    return {plugin.name: plugin for plugin in _plugins(PREDICTOR_GROUP)}


def _plugins(group: str) -> list[EntryPoint]:
    # not before it is needed: a serving process starts without it
    from importlib.metadata import entry_points

    return sorted(entry_points(group=group))


def plugin_package(plugin: EntryPoint) -> str:
    """Return the package that brings a plugin, as `name==version`."""
    return f"{plugin.dist.name}=={plugin.dist.version}" if plugin.dist else plugin.value


def loaded_algorithm(plugin: EntryPoint) -> Any:
    """Return the algorithm of an entry point: the object, or one made of the class.

    Raises
    ------
    BackendError
        If it cannot be imported, lacks parts of an `Algorithm`, or has another name.
    """
    found = _loaded(plugin, "algorithm")
    if isinstance(found, type):
        try:
            found = found()
        except Exception as cause:
            raise _broken(plugin, "algorithm", f"fails when it is made: {cause!r}") from cause
    _check_parts(found, plugin, "algorithm", _ALGORITHM_PARTS)
    if found.name != plugin.name:
        raise _broken(plugin, "algorithm", f"calls itself {found.name!r}")
    if found.features not in _FEATURES:
        known = ", ".join(_FEATURES)
        raise _broken(plugin, "algorithm", f"wants features {found.features!r}, not {known}")
    return found


def loaded_predictor(plugin: EntryPoint) -> Any:
    """Return the class of a kind of predictor.

    Raises
    ------
    BackendError
        If it cannot be imported or lacks parts of a `Predictor`.
    """
    found = _loaded(plugin, "predictor")
    _check_parts(found, plugin, "predictor", _PREDICTOR_PARTS)
    return found


def _loaded(plugin: EntryPoint, what: str) -> Any:
    try:
        return plugin.load()
    except Exception as cause:
        raise _broken(plugin, what, f"cannot be imported: {cause!r}") from cause


def _check_parts(found: Any, plugin: EntryPoint, what: str, parts: tuple[str, ...]) -> None:
    missing = [name for name in parts if not hasattr(found, name)]
    if missing:
        raise _broken(plugin, what, f"lacks {', '.join(missing)}")


def _broken(plugin: EntryPoint, what: str, reason: str) -> BackendError:
    return BackendError(
        f"The {what} {plugin.name!r} of {plugin_package(plugin)} ({plugin.value}) {reason}.",
        hint="Bring the package up to date, or see its documentation.",
        plugin=plugin.name,
    )
