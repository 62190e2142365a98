"""Stacks: predictors that also hear what others answer, and the weighted mean of both layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.blend_predictor import MAX_MEMBERS
from loopwright.train.link import Link
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_NESTED = ("blend", "stack")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackPredictor(Predictor):
    """Score a row as the weighted mean of the answers of two layers, in a fixed order.

    The lower layer answers from features. Its members are put into groups (the models of one
    configuration), and a member of the upper layer takes its own features and after them the mean
    answers of the first `n_heard` groups.

    Parameters
    ----------
    members, uppers
        Predictors of the lower and of the upper layer with the same number of outputs, at least
        one of each and at most 512 in all; none of them a blend or a stack.
    spans, upper_spans
        For each of them the first feature it takes and the one after its last.
    groups
        `(n_members,)` int32: the group of each lower member, ascending from 0.
    n_heard
        How many groups the upper layer hears, at least 1.
    weights
        `(n_members + n_uppers,)`, 0 or more, adding to 1.
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
    groups: npt.NDArray[np.int32]
    n_heard: int
    uppers: tuple[Predictor, ...]
    upper_spans: tuple[tuple[int, int], ...]
    weights: npt.NDArray[np.float64]
    n_features: int
    link: Link = "identity"

    def __post_init__(self) -> None:
        both = (*self.members, *self.uppers)
        if not self.members or not self.uppers or len(both) > MAX_MEMBERS:
            raise _broken(f"it has {len(self.members)} lower and {len(self.uppers)} upper members")
        if len(self.spans) != len(self.members) or len(self.upper_spans) != len(self.uppers):
            raise _broken("its spans do not go with its members")
        if self.weights.shape != (len(both),) or self.weights.dtype != np.float64:
            raise _broken(f"its weights have shape {self.weights.shape}")
        # not >= 0 is also true for what is not a number
        if not (self.weights >= 0).all() or not abs(float(self.weights.sum()) - 1.0) <= 1e-9:
            raise _broken("its weights do not add up to 1")
        if self.link != "identity":
            raise _broken(f"its link is {self.link!r}")
        if len({member.n_outputs for member in both}) != 1:
            raise _broken("its members give different numbers of scores")
        self._check_groups()
        self._check_spans()

    def _check_groups(self) -> None:
        groups = self.groups
        if groups.shape != (len(self.members),) or groups.dtype != np.int32:
            raise _broken(f"its groups have shape {groups.shape} and type {groups.dtype}")
        steps = np.diff(groups)
        if groups[0] != 0 or not ((steps == 0) | (steps == 1)).all():
            raise _broken("its groups are not numbered one after the other")
        if not 1 <= self.n_heard <= int(groups[-1]) + 1:
            raise _broken(f"{self.n_heard} of {int(groups[-1]) + 1} groups are heard")

    def _check_spans(self) -> None:
        said = self.n_heard * self.n_outputs
        layers = ((self.members, self.spans, 0), (self.uppers, self.upper_spans, said))
        for members, spans, more in layers:
            for member, (start, end) in zip(members, spans, strict=True):
                fits = end - start + more == member.n_features
                if not 0 <= start < end <= self.n_features or not fits:
                    raise _broken(
                        f"a member of {member.n_features} features takes those from {start} to {end}"
                    )

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return self.members[0].n_outputs

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        n_outputs = self.n_outputs
        total = np.zeros((len(X), n_outputs))
        sizes = np.bincount(self.groups)[: self.n_heard]
        said = np.zeros((self.n_heard, len(X), n_outputs))
        weights = self.weights.tolist()
        # models of one fold and family read the same features
        blocks = {span: np.ascontiguousarray(X[:, span[0] : span[1]]) for span in set(self.spans)}
        for place, (member, span) in enumerate(zip(self.members, self.spans, strict=True)):
            answers = member.predict_raw(blocks[span])
            answers = answers.reshape(total.shape)
            if self.groups[place] < self.n_heard:
                said[self.groups[place]] += answers
            total += weights[place] * answers
        heard = np.concatenate(
            [each / size for each, size in zip(said, sizes, strict=True)], axis=1
        )
        for place, (upper, (start, end)) in enumerate(
            zip(self.uppers, self.upper_spans, strict=True), start=len(self.members)
        ):
            answers = upper.predict_raw(np.concatenate([X[:, start:end], heard], axis=1))
            total += weights[place] * answers.reshape(total.shape)
        return total

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored: members' arrays as `m<n>_<name>`, the upper ones' last."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "weights": self.weights,
            "groups": self.groups,
        }
        for place, member in enumerate((*self.members, *self.uppers)):
            arrays |= {f"m{place}_{name}": array for name, array in member.arrays().items()}
        return arrays

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        from loopwright.train.predictor_file import predictor_meta

        return {
            "n_features": self.n_features,
            "n_heard": self.n_heard,
            "spans": [list(span) for span in self.spans],
            "upper_spans": [list(span) for span in self.upper_spans],
            "members": [predictor_meta(each) for each in (*self.members, *self.uppers)],
        }

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> StackPredictor:
        """Return the predictor that was stored."""
        from loopwright.train.predictor_file import predictor_of

        if len(meta["members"]) > MAX_MEMBERS:
            raise _broken(f"it has {len(meta['members'])} members")
        both = []
        for place, about in enumerate(meta["members"]):
            if about["kind"] in _NESTED:
                raise _broken(f"a member is itself a {about['kind']}")
            prefix = f"m{place}_"
            own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            both.append(predictor_of(own, about))
        n_lower = len(meta["spans"])
        return cls(
            members=tuple(both[:n_lower]),
            spans=tuple((int(start), int(end)) for start, end in meta["spans"]),
            groups=arrays["groups"],
            n_heard=int(meta["n_heard"]),
            uppers=tuple(both[n_lower:]),
            upper_spans=tuple((int(start), int(end)) for start, end in meta["upper_spans"]),
            weights=arrays["weights"],
            n_features=int(meta["n_features"]),
            link=link,
        )


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The stack of models cannot be trusted: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="stack",
        value=reason,
    )
