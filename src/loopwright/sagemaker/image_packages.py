"""The packages that the image of a framework has, as far as they can be had here."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import version

from loopwright.sagemaker.image import image_of

_SCIKIT_LEARN = "sagemaker-scikit-learn"
_MINOR = re.compile(r"(\d+)\.(\d+)")
_FIRST, _MODERN = (1, 2), (1, 5)
# releases compiled for numpy 1, and the last Python they have wheels for
_OLD: Mapping[tuple[int, int], tuple[int, int]] = {
    (1, 2): (3, 11),
    (1, 3): (3, 12),
    (1, 4): (3, 12),
}
_OLD_COMPANIONS = ("numpy<2", "scipy<1.13", "pandas<2.3")


def image_packages(uri: str) -> tuple[str, ...]:
    """Return what a job gets because of its image, as pip reads it.

    Scikit-learn comes in the release of the tag, since scripts and models do not go from one to the
    other, and with a pandas of its time. All else, and a release that has no wheels for this
    Python, is what loopwright has itself.
    """
    if not uri:
        return ()
    image = image_of(uri)
    found = _MINOR.match(image.tag)
    if image.repository != _SCIKIT_LEARN or found is None:
        return ()
    asked = (int(found[1]), int(found[2]))
    here = _MINOR.match(version("scikit-learn"))
    is_here = here is not None and asked == (int(here[1]), int(here[2]))
    latest = _OLD.get(asked, sys.version_info[:2] if asked >= _MODERN else (0, 0))
    if is_here or asked < _FIRST or sys.version_info[:2] > latest:
        return ()
    companions = _OLD_COMPANIONS if asked in _OLD else ("pandas<3",)
    pinned = f"scikit-learn=={asked[0]}.{asked[1]}.*"
    return ("--only-binary=scikit-learn", pinned, *companions)
