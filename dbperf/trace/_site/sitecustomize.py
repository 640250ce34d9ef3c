"""Python imports this at its start, where `dbperf.trace.launch.environment` put this folder on PYTHONPATH.

It waits for uvicorn and wraps what uvicorn serves. Whatever goes wrong here must not keep the program from running.
"""

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


class _UvicornWatch:
    """Notices the import of uvicorn.config, and leaves."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]  # noqa: ARG002 - importlib's signature
        if name != "uvicorn.config":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            loader = spec.loader
            original = loader.exec_module

            def exec_module(module):  # type: ignore[no-untyped-def]
                original(module)
                _wrap(module)

            loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec


def _wrap(module) -> None:  # type: ignore[no-untyped-def]
    from dbperf.trace.launch import traced

    original = module.Config.load

    def load(self) -> None:  # type: ignore[no-untyped-def]
        original(self)
        self.loaded_app = traced(self.loaded_app, self.app)

    module.Config.load = load


if os.environ.get("DBPERF_TRACE_DIR"):
    sys.meta_path.insert(0, _UvicornWatch())
_others()
