"""Which columns of the raw table each feature was made from."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from loopwright.prepare.catalogue import AnyFittedStep
from loopwright.prepare.date_part import DateParts
from loopwright.prepare.encoding import FittedEncoding
from loopwright.prepare.imputation import FittedImpute
from loopwright.prepare.interaction import Interact
from loopwright.prepare.one_hot import FittedOneHot
from loopwright.prepare.rare import Hash
from loopwright.prepare.recipe import FittedRecipe
from loopwright.prepare.step import Types
from loopwright.prepare.text_vector import FittedTextVector
from loopwright.prepare.union import RecipeUnion

Origins = tuple[tuple[str, ...], ...]


def feature_origins(fitted: FittedRecipe | RecipeUnion) -> Origins:
    """Return for each feature, in order, the raw columns it was made from.

    A level of a category comes from that category, a part of a date from that date, a product from
    both of its factors. A gap filled with the help of other columns comes from its own.

    Examples
    --------
    `(("grade",), ("date",), ("date",), ("sqft_living", "grade"))`
    """
    if isinstance(fitted, RecipeUnion):
        return tuple(each for recipe in fitted.recipes for each in feature_origins(recipe))
    origins: dict[str, tuple[str, ...]] = {name: (name,) for name in fitted.inputs}
    types: Types = fitted.inputs
    for step in fitted.steps:
        after = step.types_after(types)
        made = _made(step)
        for name in after:
            if name in made:
                sources = made[name]
            elif name in types:
                continue  # changed in its place
            else:
                sources = step.columns
            origins[name] = _union(sources, origins)
        types = after
    return tuple(origins[name] for name in fitted.feature_names)


def _made(step: AnyFittedStep) -> Mapping[str, tuple[str, ...]]:
    """Return the columns a step adds, each with those it is made from."""
    match step:
        case DateParts():
            parts = len(step.parts)
            return {name: (step.columns[at // parts],) for at, name in enumerate(step.names)}
        case Interact():
            return dict(zip(step.names, combinations(step.columns, 2), strict=True))
        case FittedImpute():
            pairs = zip(step.indicators, step.columns, strict=True)
            return {name: (column,) for name, column in pairs if name is not None}
        case FittedOneHot() | Hash():
            owners = zip(step.columns, step.names, strict=True)
            return {name: (column,) for column, names in owners for name in names}
        case FittedEncoding():
            return {output.name: (output.column,) for output in step.outputs}
        case FittedTextVector():
            return {name: (v.column,) for v in step.vectors for name in v.names}
        case _:
            return {}


def _union(sources: tuple[str, ...], origins: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for name in sources for column in origins.get(name, ())))
