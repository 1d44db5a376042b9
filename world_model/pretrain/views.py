"""How rows of a batch are looked at: the same way whoever looks, and however often."""

from __future__ import annotations

from torch import Tensor

from configs.views import ViewOptions
from world_model.views.parameters import draw_parameters
from world_model.views.pipeline import apply_view
from world_model.views.randomness import keyed_uniforms


class KeyedViews:
    """Views that depend on seed, update, row and view alone."""

    def __init__(self, options: ViewOptions, seed: int, update: int) -> None:
        """Make those of one update."""
        self._options, self._seed, self._update = options, seed, update

    def __call__(self, images: Tensor, row: Tensor, view: int) -> Tensor:
        """See `world_model.pretrain.samples.Views`."""
        uniforms = keyed_uniforms(row, seed=self._seed, update=self._update, view=view)
        height, width = images.shape[-2:]
        options = self._options.of_second_views() if view else self._options
        parameters = draw_parameters(options, uniforms, (height, width))
        return apply_view(images, parameters)


def unchanged(images: Tensor, row: Tensor, view: int) -> Tensor:
    """Observations as they were recorded."""
    return images
