"""The models that one process holds: opened and proved before they answer, ended when nothing asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError
from loopwright.deploy.endpoint import DesiredState
from loopwright.deploy.model import ModelOpener, Served
from loopwright.deploy.variant import Variant

# requests that have begun reach their code in this time, in seconds
_CODE_LEAVES_S = 5.0
# and ends in this time when the endpoint does
_CODE_ENDS_S = 3.0


class ModelSet:
    """The models of an endpoint's variants, as one process serves them.

    Parameters
    ----------
    folder
        That of the endpoint; a user's own code is unpacked and runs below it.
    open_model
        Opens a `model.tar.gz`.
    """

    def __init__(self, folder: Path, open_model: ModelOpener) -> None:
        self._folder = folder
        self._open_model = open_model
        self._models: list[tuple[Variant, Served]] = []

    def opened(self, desired: DesiredState) -> tuple[Served, ...]:
        """Return the model of every variant; those that are served already are kept.

        It may take seconds, and runs beside the requests.

        Raises
        ------
        LoopwrightError
            If one cannot be opened, or is not to be trusted; then nothing has changed.
        """
        found: list[Served] = []
        try:
            for variant in desired.all_variants:
                served = self._kept(variant) or _opened(variant, self._open_model, self._folder)
                found.append(_under(desired, served))
        except Exception:
            _end_code(found, but=[served for _, served in self._models])
            raise
        return tuple(found)

    def exchange(self, variants: Sequence[Variant], found: Sequence[Served]) -> None:
        """Hold these models, which answer from now on; those that answered before leave."""
        known = [served for _, served in self._models]
        self._models = list(zip(variants, found, strict=True))
        _end_code(known, but=found)

    def close(self) -> None:
        """End the users' own code, once all requests have been answered."""
        _end_code([served for _, served in self._models])

    def _kept(self, variant: Variant) -> Served | None:
        # a shadow is asked from another thread and shares its model with no other
        if variant.bundle_digest is None:
            return None
        for known, served in self._models:
            # the same file may be run as code by other settings
            same = (variant.bundle_digest, variant.shadow, variant.code)
            if (known.bundle_digest, known.shadow, known.code) == same:
                return replace(served, version=variant.version)
        return None


def _end_code(among: Sequence[Served], *, but: Sequence[Served] = ()) -> None:
    """End the users' own code that is not served any more, once its last requests are through."""
    kept = [id(served.model) for served in but]
    for served in among:
        if served.code is not None and id(served.model) not in kept:
            times = {"after_s": _CODE_LEAVES_S} if but else {"wait_s": _CODE_ENDS_S}
            served.model.close(**times)  # type: ignore[attr-defined] # own code alone is ended


def _opened(variant: Variant, open_model: ModelOpener, folder: Path) -> Served:
    """Return the model of a variant, once it has proved to be the right one and to work.

    Raises
    ------
    LoopwrightError
        If the bundle cannot be opened, is another file, or answers its golden rows otherwise than
        when it was packed.
    """
    bundle = Path(variant.bundle)
    _check_file(bundle, variant.bundle_digest)
    if variant.code is not None:
        # loads what only such endpoints need
        from loopwright.deploy.own_code import open_own_code

        code = open_own_code(
            bundle,
            variant.code,
            folder=folder / "own-code",
            name=variant.name,
            digest=variant.bundle_digest,
        )
        return Served(
            model=code, version=variant.version, is_shadow=variant.shadow, code=code.answered
        )
    model = open_model(bundle)
    model.check_golden()
    return Served(model=model, version=variant.version, is_shadow=variant.shadow)


def _check_file(bundle: Path, digest: str | None) -> None:
    """Raise `InvalidInputError` if a bundle is another file than was approved, or none."""
    # a pipe would keep its reader, and with it every later change, waiting for ever
    if bundle.exists() and not (bundle.is_file() or bundle.is_dir()):
        raise InvalidInputError(
            f"{bundle} is not a file.",
            hint="Give the path of a model.tar.gz.",
            field="bundle",
            value=str(bundle),
        )
    if digest is not None and (found := digest_file(bundle)) != digest:
        raise InvalidInputError(
            f"{bundle} has the digest {found}, not {digest}.",
            hint="The file was changed after it was approved; restore it.",
            field="bundle",
            value=found,
            expected=digest,
        )


def _under(desired: DesiredState, served: Served) -> Served:
    """Return a model that reads requests as the endpoint is asked to."""
    model = served.model
    if desired.unknown_columns is not None:
        model = model.with_unknown_columns(desired.unknown_columns)
    if desired.unseen_categories is not None:
        model = model.with_unseen_categories(desired.unseen_categories)
    return served if model is served.model else replace(served, model=model)
