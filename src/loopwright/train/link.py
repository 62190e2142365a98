"""Links: from the score a model adds up to the number it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

Link = Literal["identity", "exp", "sigmoid", "softmax"]
LINKS: tuple[str, ...] = get_args(Link)

# exp(700) is near 1e304: a wild extrapolation of a logarithm stays a number that JSON can say
_LARGEST_LOGARITHM = 700.0


def checked_link(name: object) -> Link:
    """Return `name` if it names a link.

    Raises
    ------
    InvalidInputError
        If it names none.
    """
    for link in get_args(Link):
        if name == link:
            known: Link = link
            return known
    raise InvalidInputError(
        f"No link is named {str(name)[:80]!r}.",
        hint=did_you_mean(str(name)[:80], LINKS),
        field="link",
        value=str(name)[:80],
    )


def linked(scores: npt.NDArray[np.float64], link: Link) -> npt.NDArray[np.float64]:
    """Return answers for scores `(n_rows, n_outputs)`, in the same shape.

    `identity` answers the score; `exp` undoes a logarithm of the target; `sigmoid` gives the
    probability of the positive class; `softmax` the probability of every class. All of it is done
    in 64-bit floats, also for XGBoost, whose own sigmoid rounds to 32 bits: the score is the
    library's to the last bit, its probability is the same up to that rounding (6e-8). The compiled
    kernel asks the system for exponentials, NumPy has its own: they may differ in the last bit.
    """
    if link == "identity":
        return scores
    kernel = find_kernel()
    if kernel is not None:
        answers = np.array(scores, dtype=np.float64, order="C")
        kernel.linked(answers, link, scores.shape[1])
        return answers
    if link == "exp":
        return np.exp(np.minimum(scores, _LARGEST_LOGARITHM))
    if link == "sigmoid":
        return _sigmoid(scores)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    # one addition a class, so that a row's answer does not depend on how many rows come with it
    total = weights[:, :1].copy()
    for column in range(1, weights.shape[1]):
        total += weights[:, column : column + 1]
    shares: npt.NDArray[np.float64] = weights / total
    return shares


def _sigmoid(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # exp of a negative number never overflows
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, small) / (1.0 + small)
