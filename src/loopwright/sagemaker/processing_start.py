"""The first lines of a processing job: `python -I -S processing_start.py`, in the folder of the job.

As `train/script_start.py`: empty heads stand in for those of the packages, which would load much
that no job needs.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    for _name, _up in (("loopwright", 2), ("loopwright.train", 2), ("loopwright.sagemaker", 1)):
        _package = ModuleType(_name)
        _folder = __file__.rsplit("/", _up)[0]
        _package.__path__ = [f"{_folder}/train" if _name.endswith(".train") else _folder]
        sys.modules[_name] = _package

    from loopwright.sagemaker.processing_worker import main

    sys.exit(main())
