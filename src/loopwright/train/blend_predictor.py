"""Blends: the weighted mean of what several predictors answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

MAX_MEMBERS = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlendPredictor(Predictor):
    """Score a row as the weighted mean of its members' answers, member by member in a fixed order.

    Answers are values (regression) or probabilities, so that members may have different links.

    Parameters
    ----------
    members
        Predictors with the same number of outputs, 1 to 512; none of them a blend.
    spans
        For each member the first feature it takes and the one after its last.
    weights
        `(n_members,)`, 0 or more, adding to 1.
    n_features
        How many features a row has.
    link
        `identity`: the mean is the answer.

    Raises
    ------
    InvalidInputError
        If the parts do not fit together.
    """

    members: tuple[Predictor, ...]
    spans: tuple[tuple[int, int], ...]
    weights: npt.NDArray[np.float64]
    n_features: int
    link: Link = "identity"

    def __post_init__(self) -> None:
        n_members = len(self.members)
        if not 1 <= n_members <= MAX_MEMBERS or len(self.spans) != n_members:
            raise _broken(f"it has {n_members} members and {len(self.spans)} spans")
        if self.weights.shape != (n_members,) or self.weights.dtype != np.float64:
            raise _broken(f"its weights have shape {self.weights.shape}")
        # not >= 0 is also true for what is not a number
        if not (self.weights >= 0).all() or not abs(float(self.weights.sum()) - 1.0) <= 1e-9:
            raise _broken("its weights do not add up to 1")
        if self.link != "identity":
            raise _broken(f"its link is {self.link!r}")
        if len({member.n_outputs for member in self.members}) != 1:
            raise _broken("its members give different numbers of scores")
        for member, (start, end) in zip(self.members, self.spans, strict=True):
            if not 0 <= start < end <= self.n_features or end - start != member.n_features:
                raise _broken(
                    f"a member of {member.n_features} features takes those from {start} to {end}"
                )

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return self.members[0].n_outputs

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        total = np.zeros((len(X), self.n_outputs))
        # models of one fold and family read the same features
        blocks = {span: np.ascontiguousarray(X[:, span[0] : span[1]]) for span in set(self.spans)}
        for member, span, weight in zip(
            self.members, self.spans, self.weights.tolist(), strict=True
        ):
            answers = member.predict_raw(blocks[span])
            total += weight * answers.reshape(total.shape)
        return total

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored: the members' arrays as `m<member>_<name>`."""
        arrays: dict[str, npt.NDArray[np.generic]] = {"weights": self.weights}
        for place, member in enumerate(self.members):
            arrays |= {f"m{place}_{name}": array for name, array in member.arrays().items()}
        return arrays

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        from loopwright.train.predictor_file import predictor_meta

        return {
            "n_features": self.n_features,
            "spans": [list(span) for span in self.spans],
            "members": [predictor_meta(member) for member in self.members],
        }

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> BlendPredictor:
        """Return the predictor that was stored."""
        from loopwright.train.predictor_file import predictor_of

        if len(meta["members"]) > MAX_MEMBERS:
            raise _broken(f"it has {len(meta['members'])} members")
        members = []
        for place, about in enumerate(meta["members"]):
            if about["kind"] in ("blend", "stack"):
                raise _broken(f"a member is itself a {about['kind']}")
            prefix = f"m{place}_"
            own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            members.append(predictor_of(own, about))
        return cls(
            members=tuple(members),
            spans=tuple((int(start), int(end)) for start, end in meta["spans"]),
            weights=arrays["weights"],
            n_features=int(meta["n_features"]),
            link=link,
        )


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The blend of models cannot be trusted: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="blend",
        value=reason,
    )
