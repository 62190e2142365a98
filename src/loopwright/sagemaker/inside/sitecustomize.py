"""Sends requests of the SageMaker SDKs for amazonaws.com to AWS_ENDPOINT_URL (loopwright)."""

# It runs at every start of Python, in whatever version a client has, so that it loads little.
# ruff: noqa: PTH100, PTH112, PTH113, PTH118, PTH120, ANN
# mypy: ignore-errors

import importlib.abc
import importlib.util
import os
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "botocore.session":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _redirect(module)

            spec.loader.exec_module = exec_module
        return spec


def _redirect(module):
    plain = module.Session.create_client

    def create_client(self, *args, **kwargs):
        own = os.environ.get("AWS_ENDPOINT_URL")
        url = kwargs.get("endpoint_url")
        if own and url and url.split("/")[2].split(":")[0].endswith(".amazonaws.com"):
            kwargs["endpoint_url"] = own
        return plain(self, *args, **kwargs)

    module.Session.create_client = create_client


def _next():
    """Run the sitecustomize that this one hides, which may be one like this and hide another."""
    for folder in sys.path:
        path = os.path.join(folder or ".", "sitecustomize.py")
        if os.path.abspath(folder or ".") not in _seen and os.path.isfile(path):
            spec = importlib.util.spec_from_file_location("_hidden_sitecustomize", path)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
            return


def _show_packages():
    """Let scripts find, after all else, what SageMaker's own containers have."""
    packages = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages")
    if os.path.isdir(packages):
        sys.path.append(packages)


# folders whose sitecustomize has run: a shell may hold the variables of several homes
_seen = sys.__dict__.setdefault("_loopwright_seen", set())
if not _seen:
    sys.meta_path.insert(0, _Finder())
_seen.add(os.path.dirname(os.path.abspath(__file__)))
_show_packages()
_next()
