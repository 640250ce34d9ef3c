"""Python imports this at its start, where `dbperf.flame.sampler.environment` put this folder on PYTHONPATH."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - every Python start pays for pathlib


def _others() -> None:
    """The sitecustomize that would have been imported without this one."""
    rest = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]  # noqa: PTH100 - as above
    spec = PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)


_others()
if os.environ.get("DBPERF_FLAME_OUT"):
    from dbperf.flame.sampler import start_from_environment

    start_from_environment()
