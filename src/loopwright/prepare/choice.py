"""Other choices than the suggested ones: how categories become numbers, whether texts count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare.binning import Bin
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.encoding import Frequency, Ordinal, TargetEncode
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.recipe import Recipe
from loopwright.prepare.step import Derive, Drop
from loopwright.prepare.text_vector import TextVector

Encoding = Literal["suggested", "one-hot", "ordinal", "target", "frequency"]
"""What becomes of categories; `suggested` is what their levels and rows speak for."""
Texts = Literal["suggested", "none"]
"""Whether free texts become features; `none` leaves them out."""

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
TEXTS: tuple[Texts, ...] = get_args(Texts)
_NO_TEXTS = "no-texts"
_KINDS: Mapping[str, type] = {
    "one-hot": OneHot,
    "ordinal": Ordinal,
    "target": TargetEncode,
    "frequency": Frequency,
}
_MOST_LEVELS, _LEAST_SHARE = 60, 0.002
# for more classes, a column for each of them at every category is too much
_MOST_CLASSES = 10


def choice_name(encoding: Encoding = "suggested", texts: Texts = "suggested") -> str:
    """Return the short name of a choice, empty for what was suggested."""
    words = [] if encoding == "suggested" else [str(encoding)]
    return "+".join([*words, *([_NO_TEXTS] if texts == "none" else [])])


def chosen_recipe(recipe: Recipe, choice: str, *, n_classes: int | None) -> Recipe:
    """Return a recipe with another choice made.

    Columns that other steps made, such as bins, stay as they are; so do steps that nothing is said
    about.

    Parameters
    ----------
    recipe
        What was suggested.
    choice
        See `choice_name`.
    n_classes
        None where the target is a number.

    Raises
    ------
    InvalidInputError
        If there is no such choice.
    """
    words = [word for word in choice.split("+") if word]
    known = (*ENCODINGS, _NO_TEXTS)
    for word in words:
        if word not in known:
            raise InvalidInputError(
                f"{word!r} is no choice of a recipe.",
                hint=did_you_mean(word, known),
                field="choice",
                value=word,
            )
    steps = recipe.steps
    for word in words:
        if word == _NO_TEXTS:
            steps = tuple(_without_text(step) for step in steps)
        elif word != "suggested":
            steps = _encoded(steps, word, n_classes=n_classes)
    return Recipe(steps, recipe.refusals)


def choices_of(recipe: Recipe, *, family: str, n_classes: int | None) -> tuple[str, ...]:
    """Return the choices that make another recipe of this one, each by itself.

    Parameters
    ----------
    family
        Places of levels (`ordinal`) are an order, which only trees can undo: `tree` alone has it.
    n_classes
        None where the target is a number.
    """
    names = [choice_name(encoding) for encoding in ENCODINGS if encoding != "suggested"]
    found = []
    for name in (*names, choice_name(texts="none")):
        usable = family == "tree" or name not in ("ordinal", "frequency")
        if name == "target" and n_classes is not None and n_classes > _MOST_CLASSES:
            usable = False
        if usable and chosen_recipe(recipe, name, n_classes=n_classes).steps != recipe.steps:
            found.append(name)
    return tuple(found)


def _without_text(step: AnyStep) -> AnyStep:
    if not isinstance(step, TextVector):
        return step
    return Drop(columns=step.columns, reason="chosen: texts are left out")


def _encoded(
    steps: tuple[AnyStep, ...], encoding: str, *, n_classes: int | None
) -> tuple[AnyStep, ...]:
    made = _made(steps)
    found: list[AnyStep] = []
    for step in steps:
        is_encoding = isinstance(step, OneHot | TargetEncode | Frequency | Ordinal)
        # a code that keeps its source stays a number beside its encoding
        keeps = isinstance(step, TargetEncode | Frequency | Ordinal) and step.keep_source
        if not is_encoding or keeps or made & set(step.columns):
            found.append(step)
        else:
            found.append(_encoding_step(step, encoding, n_classes=n_classes))
    return tuple(found)


def _encoding_step(step: AnyStep, encoding: str, *, n_classes: int | None) -> AnyStep:
    columns: tuple[str, ...] = getattr(step, "columns", ())
    reason = f"chosen: {encoding} for categories"
    per_class = n_classes is not None and n_classes > 2
    if isinstance(step, _KINDS[encoding]):
        return step
    if encoding == "one-hot":
        return OneHot(
            columns=columns, max_levels=_MOST_LEVELS, min_share=_LEAST_SHARE, reason=reason
        )
    if encoding == "target":
        return TargetEncode(columns=columns, per_class=per_class, reason=reason)
    return (Ordinal if encoding == "ordinal" else Frequency)(columns=columns, reason=reason)


def _made(steps: Iterable[AnyStep]) -> set[str]:
    """Return the columns that steps make anew, or cut into bins."""
    made: set[str] = set()
    for step in steps:
        if isinstance(step, Derive):
            made.add(step.name)
        if isinstance(step, Bin):
            made |= set(step.columns)
    return made
