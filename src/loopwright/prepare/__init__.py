"""Steps that turn rows into features, the same in training and in serving."""

from loopwright.prepare.binning import Bin
from loopwright.prepare.cast import Cast
from loopwright.prepare.choice import (
    ENCODINGS,
    TEXTS,
    choice_name,
    choices_of,
    chosen_recipe,
)
from loopwright.prepare.date_part import DateParts
from loopwright.prepare.encoding import Frequency, Ordinal, TargetEncode
from loopwright.prepare.expression import Expression, parse_expression
from loopwright.prepare.filling import GroupImpute, KnnImpute
from loopwright.prepare.fitting import fit_recipe, fit_recipe_lazily
from loopwright.prepare.imputation import Impute
from loopwright.prepare.interaction import Interact
from loopwright.prepare.kind import Kind, kind_of
from loopwright.prepare.line import Line
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.order import read_order
from loopwright.prepare.ordering import check_ordered
from loopwright.prepare.plan import Overrule, PreparePlan, check_orders, checked_prepare
from loopwright.prepare.power import Power
from loopwright.prepare.quantile import QuantileScale, RobustScale
from loopwright.prepare.rare import GroupRare, Hash
from loopwright.prepare.recipe import FittedRecipe, Recipe, Refusal
from loopwright.prepare.row import RowEncoder
from loopwright.prepare.row_reader import OneRowReader, RowReader, row_parts
from loopwright.prepare.scaling import Clip, Log1p, Scale
from loopwright.prepare.selection import DropCorrelated, DropPersonal, SelectBest
from loopwright.prepare.signature import Field, Signature
from loopwright.prepare.sklearn_step import SklearnStep
from loopwright.prepare.step import Derive, Drop
from loopwright.prepare.suggestion import suggest
from loopwright.prepare.text_vector import TextVector
from loopwright.prepare.union import RecipeUnion, UnionEncoder, open_fitted, row_encoder
from loopwright.prepare.value import ValueType, value_types

__all__ = [
    "ENCODINGS",
    "TEXTS",
    "Bin",
    "Cast",
    "Clip",
    "DateParts",
    "Derive",
    "Drop",
    "DropCorrelated",
    "DropPersonal",
    "Expression",
    "Field",
    "FittedRecipe",
    "Frequency",
    "GroupImpute",
    "GroupRare",
    "Hash",
    "Impute",
    "Interact",
    "Kind",
    "KnnImpute",
    "Line",
    "Log1p",
    "OneHot",
    "OneRowReader",
    "Ordinal",
    "Overrule",
    "Power",
    "PreparePlan",
    "QuantileScale",
    "Recipe",
    "RecipeUnion",
    "Refusal",
    "RobustScale",
    "RowEncoder",
    "RowReader",
    "Scale",
    "SelectBest",
    "Signature",
    "SklearnStep",
    "TargetEncode",
    "TextVector",
    "UnionEncoder",
    "ValueType",
    "check_ordered",
    "check_orders",
    "checked_prepare",
    "choice_name",
    "choices_of",
    "chosen_recipe",
    "fit_recipe",
    "fit_recipe_lazily",
    "kind_of",
    "open_fitted",
    "parse_expression",
    "read_order",
    "row_encoder",
    "row_parts",
    "suggest",
    "value_types",
]
