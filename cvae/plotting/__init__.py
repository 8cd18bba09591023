"""Pictures of a model: its images, what it finds improbable, its codes and its training.

All functions need matplotlib and follow its conventions. Those of one picture draw to the axes `ax` if given, and
return the axes; `history` takes and returns a figure. Without `ax` or `figure` they make a figure: with pyplot, which
shows it in a notebook and at ``pyplot.show()``, or, to write it to a `path`, without pyplot, which needs no display and
leaves its windows and global state unaffected.

Grey and RGB images are drawn in their colours; images of any other number of channels as the grey images of their
channels, the first 16, from left to right. Pixels are shown from 0, black, to 1, white (uint8: 255), or from one end of
a `value_range` to the other. Where a function is given a model, images are in its units.
"""

from cvae.plotting.codes import latent, latent_plane, traversals
from cvae.plotting.figures import check_can_plot
from cvae.plotting.images import class_samples, reconstructions, samples
from cvae.plotting.rankings import best_and_worst, error_maps, outliers
from cvae.plotting.training import history

__all__ = [
    "best_and_worst", "check_can_plot", "class_samples", "error_maps", "history", "latent", "latent_plane", "outliers",
    "reconstructions", "samples", "traversals",
]  # fmt: skip
