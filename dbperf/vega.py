"""Vega draws charts: vl-convert's V8, in a process of its own.

V8 takes 0.7 s to start on a slow machine and holds the interpreter's lock meanwhile; beside this process it starts
while dbperf imports what it needs and reads a run. Pictures are asked for ahead and drawn while this process goes on.
It ends with this process: at the end of its input.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import cache
from queue import SimpleQueue
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


class Drawing:
    """A picture that an engine works on."""

    def __init__(self) -> None:
        self._answer: SimpleQueue[dict[str, str] | None] = SimpleQueue()
        self._svg: str | None = None

    def svg(self) -> str:
        """Vega's SVG; waits for it.

        Raises:
            ValueError: Vega-Lite refuses the specification.
            OutputError: the engine has ended (killed, or out of memory).
        """
        if self._svg is None:
            answer = self._answer.get()
            self._answer.put(answer)
            if answer is None:
                raise OutputError("the chart engine ended unexpectedly", hint="dbperf report RUN tries again")
            if "error" in answer:
                raise ValueError(answer["error"])
            self._svg = answer["svg"]
        return self._svg


class Engine:
    """One process, one picture at a time, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[Drawing] = deque()
        self.ended = False
        # A session of its own: Ctrl-C ends dbperf, and with it the engine's input.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        # A pipe holds some pictures only: whoever asks for more would wait until the engine has started and drawn them.
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=part, name="dbperf-vega", daemon=True) for part in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def draw(self, specification: dict[str, Any]) -> Drawing:
        """Begins to draw a Vega-Lite specification."""
        drawing, line = Drawing(), json.dumps(specification).encode() + b"\n"
        with self._lock:  # what is asked first is answered first
            if not self.ended:
                self._asked.append(drawing)
                self._lines.put(line)
                return drawing
        drawing._answer.put(None)
        return drawing

    def _write(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: the reader notices, and answers
            while (line := self._lines.get()) is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                break  # killed in the middle of an answer
            self._asked.popleft()._answer.put(json.loads(line))
        self.ended = True
        with self._lock:
            while self._asked:
                self._asked.popleft()._answer.put(None)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # it holds nothing, and would take a while to tidy up
        self._process.wait()
        self._lines.put(None)
        for thread in self._threads:
            thread.join()
        with suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()


_starting = threading.Lock()


@cache
def _engine() -> Engine:
    return Engine()


def start() -> Engine:
    """This process's engine, a new one where there is none or it has ended. Does not wait until it is ready."""
    with _starting:
        if _engine().ended:
            _engine.cache_clear()
        return _engine()


def draw(specification: dict[str, Any]) -> Drawing:
    """Begins to draw a Vega-Lite specification."""
    return start().draw(specification)
