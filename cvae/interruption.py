"""Signals that ask to stop: within training they wait until the current batch is finished."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class StopHandler:
    """A handler of signals that raises `Stopped`.

    Further signals within a second are those of the same request: `timeout`, terminals and service managers send
    several, and programs that start others pass them on. Later ones raise again.
    """

    GRACE = 1.0  # seconds

    def __init__(self) -> None:
        self._first = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise `Stopped`, unless a signal came just before."""
        now = time.monotonic()
        if now - self._first >= self.GRACE:
            self._first = now
            raise Stopped(number)


@contextlib.contextmanager
def _handled(handler_for: Callable[[Any], Handler | None]) -> Iterator[None]:
    """Give the signals that ask to stop other handlers within the block.

    `handler_for` gets the handler of a signal and returns the one to put in its place, or None to leave it. Nothing
    changes outside the main thread, which alone receives signals.
    """
    replaced: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                before = signal.getsignal(number)
                handler = handler_for(before)
                if handler is not None:
                    replaced[number] = before
                    signal.signal(number, handler)
        yield
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise `Stopped` within the block, apart from those that are ignored or handled."""
    handler = StopHandler()
    with _handled(lambda before: handler if before in (signal.SIG_DFL, signal.default_int_handler) else None):
        yield


class Interrupt:
    """What came while `deferred_interrupt` was in force."""

    def __init__(self) -> None:
        self.error: KeyboardInterrupt | None = None
        self.is_deferred = True  # otherwise it is raised at once

    def check(self) -> None:
        """Raise what has been deferred."""
        if self.error is not None:
            raise self.error

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let interrupts through within the block."""
        self.check()
        self.is_deferred = False
        try:
            yield
        finally:
            self.is_deferred = True


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Keep the first Ctrl-C within the block for later, so that the current batch is finished; the second interrupts.

    The same goes for signals handled by a `StopHandler`. Nothing changes if the program handles Ctrl-C itself.
    """
    interrupt = Interrupt()

    def deferring(before: Any) -> Handler | None:
        if before is not signal.default_int_handler and not isinstance(before, StopHandler):
            return None

        def handler(number: int, frame: FrameType | None) -> None:
            if interrupt.error is not None or not interrupt.is_deferred:
                before(number, frame)
                return
            try:
                before(number, frame)
            except KeyboardInterrupt as error:
                interrupt.error = error

        return handler

    with _handled(deferring):
        yield interrupt
