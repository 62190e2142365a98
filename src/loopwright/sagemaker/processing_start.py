"""The first lines of a processing job: `python -I -S processing_start.py`, in the folder of the job.

As `train/script_start.py`: empty heads stand in for those of the packages, which would load much
that no job needs.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    _root = __file__.rsplit("/", 2)[0]
    for _name in ("", "/train", "/compute", "/sagemaker"):
        _package = ModuleType(f"loopwright{_name.replace('/', '.')}")
        _package.__path__ = [_root + _name]
        sys.modules[_package.__name__] = _package

    from loopwright.sagemaker.processing_worker import main

    sys.exit(main())
