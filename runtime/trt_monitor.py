"""Watching a TensorRT build, and stopping it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .progress import Phases


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event: TensorRT prints and forgets an exception in its callbacks, and builds on."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def monitor_of(trt: Any, phases: Phases, pressed: threading.Event) -> Any:
    """Return an ``IProgressMonitor`` of the module ``trt`` that tells ``phases``, and stops once ``pressed`` is set."""
    steps: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps[phase_name] = num_steps
            phases(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases(phase_name, step + 1, steps[phase_name])
            return not pressed.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases(phase_name, steps[phase_name], steps[phase_name])

    return Monitor()
