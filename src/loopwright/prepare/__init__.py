"""Steps that turn rows into features, the same in training and in serving."""

from loopwright.prepare.encoding import Frequency, Ordinal, TargetEncode
from loopwright.prepare.expression import Expression, parse_expression
from loopwright.prepare.kind import Kind, kind_of
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.plan import PreparePlan, checked_prepare
from loopwright.prepare.recipe import FittedRecipe, Recipe, fit_recipe
from loopwright.prepare.row import RowEncoder
from loopwright.prepare.scaling import Clip, Impute, Log1p, Scale
from loopwright.prepare.signature import Field, Signature
from loopwright.prepare.step import DateParts, Derive, Drop
from loopwright.prepare.suggestion import suggest
from loopwright.prepare.value import ValueType, value_types

__all__ = [
    "Clip",
    "DateParts",
    "Derive",
    "Drop",
    "Expression",
    "Field",
    "FittedRecipe",
    "Frequency",
    "Impute",
    "Kind",
    "Log1p",
    "OneHot",
    "Ordinal",
    "PreparePlan",
    "Recipe",
    "RowEncoder",
    "Scale",
    "Signature",
    "TargetEncode",
    "ValueType",
    "checked_prepare",
    "fit_recipe",
    "kind_of",
    "parse_expression",
    "suggest",
    "value_types",
]
