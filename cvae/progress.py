"""The progress line of training: one for the whole run, with the losses and the time that is left."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"  # the losses first, for narrow windows
_FORMAT_WITHOUT_END = "{desc}: {n_fmt} images, {elapsed}"


class Progress:
    """A line of progress on standard error, or none.

    Parameters
    ----------
    n_images : int or None
        To train on in all epochs, if that is known.
    shown : bool
        Whether there is a line.
    """

    def __init__(self, n_images: int | None, shown: bool) -> None:
        self._n_images, self._shown = n_images, shown and sys.stderr is not None
        self._bar: Any = None
        self._epoch, self._losses = "", {"loss": "", "val_loss": ""}

    def begin_epoch(self, label: str, done: int) -> None:
        """Show the name of an epoch, of which so many images have been trained on before."""
        self._epoch = label
        if self._shown and self._bar is None:
            bar_format = _FORMAT_WITHOUT_END if self._n_images is None else _FORMAT
            options = {"desc": label, "bar_format": bar_format, "dynamic_ncols": True}
            with self._unless_gone():
                self._bar = _bar_class()(total=self._n_images, initial=done, **options)

    def update(self, n_images: int, loss: float) -> None:
        """Show that a batch is done, and the mean loss of the epoch so far."""
        if self._bar is not None:
            with self._unless_gone():
                self._show(refresh=False, loss=loss)
                self._bar.update(n_images)

    def end_epoch(self, entry: dict[str, float]) -> None:
        """Show the losses of an epoch."""
        if self._bar is not None:
            with self._unless_gone():
                self._show(refresh=True, **{name: entry[name] for name in self._losses if name in entry})

    def _show(self, refresh: bool, **losses: float) -> None:
        for name, loss in losses.items():
            self._losses[name] = f", {name} {loss:.2f}" if abs(loss) < 1e6 else f", {name} {loss:.2e}"
        self._bar.set_description_str(self._epoch + "".join(self._losses.values()), refresh=refresh)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            with self._unless_gone():
                self._bar.close()

    @contextlib.contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Go on without a line when it can no longer be written, as after the end of a terminal."""
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            if self._bar is not None:
                self._bar.disable = True
            self._bar, self._shown = None, False


def _bar_class() -> Any:
    """Return the class of tqdm for a notebook or a terminal, without its thread, which would outlive a fork."""
    if _is_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it shows text, as elsewhere
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm  # not at the top: it takes half as long as `import cvae`, and only training needs it
    return type("Bar", (tqdm,), {"monitor_interval": 0})


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"
