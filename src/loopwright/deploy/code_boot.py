"""The first lines beside a user's own code: `python -I -S code_boot.py guard|start ORDER ...`.

What follows loads the standard library and a few modules of this package. The heads of the packages
they lie in would load much more, so that empty ones stand in for them.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    _root = __file__.rsplit("/", 2)[0]
    for _name in ("", ".compute", ".deploy", ".train"):
        _package = ModuleType(f"loopwright{_name}")
        _package.__path__ = [_root + _name.replace(".", "/")]
        sys.modules[f"loopwright{_name}"] = _package

    from loopwright.deploy import code_guard

    sys.exit({"guard": code_guard.guard, "start": code_guard.start}[sys.argv[1]](sys.argv[2:]))
