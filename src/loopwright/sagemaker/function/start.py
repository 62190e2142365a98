"""The first lines of a function's call: `python -I -S start.py`, in the folder of its job.

As `train/script_start.py`: empty heads stand in for those of the packages.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    for _name, _up in (("loopwright", 3), ("loopwright.train", 3), ("loopwright.sagemaker", 2)):
        _package = ModuleType(_name)
        _folder = __file__.rsplit("/", _up)[0]
        _package.__path__ = [f"{_folder}/train" if _name.endswith(".train") else _folder]
        sys.modules[_name] = _package

    from loopwright.sagemaker.function.worker import main

    sys.exit(main())
