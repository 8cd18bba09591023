"""Reading ahead: a thread fills one place while another is in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from cvae.runtime.threads import limit_threads

Item = TypeVar("Item")

PLACES = 2  # one in use, one that is being filled


class Stop:
    """Whether nobody waits for what is being read."""

    is_set = False


def read_ahead(fill: Callable[[int, Stop], Item | None]) -> Generator[Item, None, None]:
    """Yield ``fill(place, stop)`` until it returns None, called by a thread for one place after another.

    A place, one of 0 to `PLACES` - 1, is filled again once the next item has been asked for. An exception in the thread
    is raised here, after all that came before it. Closing the iterator waits for the thread, to which `stop` then
    says that its result will not be used.
    """
    free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[Any, int, BaseException | None]] = queue.SimpleQueue()
    stop = Stop()

    def work() -> None:
        try:
            with limit_threads(1, shares=False):  # the others are the model's
                while (place := free.get()) is not None and not stop.is_set:
                    item = fill(place, stop)
                    ready.put((item, place, None))
                    if item is None:
                        return
        except BaseException as error:
            ready.put((None, 0, error))

    for place in range(PLACES):
        free.put(place)
    thread = threading.Thread(target=work, name="cvae-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, place, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
            free.put(place)
    finally:
        stop.is_set = True
        free.put(None)
        thread.join()
