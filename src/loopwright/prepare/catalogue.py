"""Every step there is, as it is asked for and as it is fitted."""

from __future__ import annotations

from loopwright.prepare.binning import Bin, FittedBin
from loopwright.prepare.cast import Cast
from loopwright.prepare.date_part import DateParts
from loopwright.prepare.encoding import FittedEncoding, Frequency, Ordinal, TargetEncode
from loopwright.prepare.filling import FittedGroupImpute, FittedKnnImpute, GroupImpute, KnnImpute
from loopwright.prepare.imputation import FittedImpute, Impute
from loopwright.prepare.interaction import Interact
from loopwright.prepare.one_hot import FittedOneHot, OneHot
from loopwright.prepare.power import FittedPower, Power
from loopwright.prepare.quantile import FittedQuantileScale, QuantileScale, RobustScale
from loopwright.prepare.rare import FittedGroupRare, GroupRare, Hash
from loopwright.prepare.scaling import (
    Clip,
    FittedClip,
    FittedScale,
    Log1p,
    Scale,
)
from loopwright.prepare.selection import DropCorrelated, DropPersonal, SelectBest
from loopwright.prepare.sklearn_step import SklearnStep
from loopwright.prepare.step import Derive, Drop
from loopwright.prepare.text_vector import FittedTextVector, TextVector

AnyStep = (
    Drop
    | DropPersonal
    | DropCorrelated
    | SelectBest
    | Derive
    | Cast
    | DateParts
    | Interact
    | Impute
    | GroupImpute
    | KnnImpute
    | Log1p
    | Power
    | Clip
    | Bin
    | Scale
    | RobustScale
    | QuantileScale
    | GroupRare
    | OneHot
    | Ordinal
    | Frequency
    | TargetEncode
    | Hash
    | TextVector
    | SklearnStep
)
AnyFittedStep = (
    Drop
    | Derive
    | Cast
    | DateParts
    | Interact
    | FittedImpute
    | FittedGroupImpute
    | FittedKnnImpute
    | Log1p
    | FittedPower
    | FittedClip
    | FittedBin
    | FittedScale
    | FittedQuantileScale
    | FittedGroupRare
    | FittedOneHot
    | FittedEncoding
    | Hash
    | FittedTextVector
)


def step_name(step: AnyStep | AnyFittedStep) -> str:
    """Return what a step is called: `drop`, `one_hot`, ..."""
    return step.kind if isinstance(step, FittedEncoding) else str(step.__struct_config__.tag)
