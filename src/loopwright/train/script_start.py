"""The first lines of a script job: `python -I -S script_start.py`, in the folder of the job.

The worker loads the standard library and a few modules beside it. The heads of the packages they
lie in would load much that no script needs, so that empty ones stand in for them.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    for _name, _up in (("loopwright", 2), ("loopwright.train", 1)):
        _package = ModuleType(_name)
        _package.__path__ = [__file__.rsplit("/", _up)[0]]
        sys.modules[_name] = _package

    from loopwright.train.script_worker import main

    sys.exit(main())
