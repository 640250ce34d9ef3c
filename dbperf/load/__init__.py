"""Load: suites, Locust as a child process, what it measured, and the verdict on it.

May import postgres, stats, records and below; never locust, which patches the process that imports it (`loadtests/`
runs in a process of its own).
"""

from dbperf.load.data import resolve_data
from dbperf.load.judge import judge
from dbperf.load.openapi import derive_suite
from dbperf.load.plan import mix
from dbperf.load.reader import read_load
from dbperf.load.runner import run_load
from dbperf.load.suites import list_suites, load_suite, with_overrides

__all__ = [
    "derive_suite",
    "judge",
    "list_suites",
    "load_suite",
    "mix",
    "read_load",
    "resolve_data",
    "run_load",
    "with_overrides",
]
