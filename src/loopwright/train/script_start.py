"""The first lines of a script job: `python -I -S script_start.py`, in the folder of the job.

The worker loads the standard library and a few modules beside it. The heads of the packages they
lie in would load much that no script needs, so that empty ones stand in for them.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    _root = __file__.rsplit("/", 2)[0]
    for _name in ("", "/train", "/compute"):
        _package = ModuleType(f"loopwright{_name.replace('/', '.')}")
        _package.__path__ = [_root + _name]
        sys.modules[_package.__name__] = _package

    from loopwright.train.script_worker import main

    sys.exit(main())
