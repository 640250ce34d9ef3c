"""Vega draws charts: vl-convert's V8, in a process of its own.

V8 takes 0.7 s to start on a slow machine and holds the interpreter's lock meanwhile; beside this process it starts
while dbperf imports what it needs and reads a run. It ends with this process: at the end of its input.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from typing import Any

from dbperf.errors import OutputError

_PROGRAM = """
import json, sys, vl_convert

def draw(specification):
    # No address is allowed, so that the converter never reaches for the network, whatever stands in the data.
    return vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])

schema = "https://vega.github.io/schema/vega-lite/v6.json"
draw({"$schema": schema, "data": {"values": []}, "mark": "line", "encoding": {}})
for line in sys.stdin:
    try:
        answer = {"svg": draw(json.loads(line))}
    except Exception as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
"""


class Engine:
    """One process, one picture at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A session of its own: Ctrl-C ends dbperf, and with it the engine's input.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        atexit.register(self.close)

    def draw(self, specification: dict[str, Any]) -> str:
        """A Vega-Lite specification as Vega's SVG.

        Raises:
            ValueError: Vega-Lite refuses it.
            OutputError: the process has ended (killed, or out of memory).
        """
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps(specification).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = b""
        if not line:
            engine.cache_clear()  # the next picture gets a new one
            raise OutputError("the chart engine ended unexpectedly", hint="dbperf report RUN tries again")
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["svg"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # it holds nothing, and would take a while to tidy up
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@cache
def engine() -> Engine:
    """This process's engine. The first call starts it and does not wait."""
    return Engine()
