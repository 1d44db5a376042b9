"""How rows of a batch are looked at: the same way whoever looks, and however often."""

from __future__ import annotations

import math

from torch import Tensor

from configs.views import ViewOptions
from configs.world_model import EncoderOptions
from world_model.views.parameters import draw_parameters
from world_model.views.pipeline import apply_view
from world_model.views.randomness import UNIFORMS, keyed_uniforms

_VECTORS = (
    1024  # from this view on, random numbers are those of vectors: an image's of the same row are others
)


class KeyedViews:
    """Views that depend on seed, update, row and view alone."""

    def __init__(self, options: ViewOptions, encoder: EncoderOptions, seed: int, update: int) -> None:
        """Make those of one update.

        Args:
            options: of views of images.
            encoder: noise and dropout of vectors.
            seed: of the run.
            update: number of the gradient step.
        """
        self._first, self._second, self._encoder = options, options.of_second_views(), encoder
        self._seed, self._update = seed, update

    def images(self, images: Tensor, row: Tensor, view: int) -> Tensor:
        """See `world_model.pretrain.samples.Views`."""
        height, width = images.shape[-2:]
        options = self._second if view else self._first
        parameters = draw_parameters(options, self._uniforms(row, view), (height, width))
        return apply_view(images, parameters)

    def vectors(self, vectors: Tensor, row: Tensor, view: int) -> Tensor:
        """Gaussian noise on every entry, and some entries set to zero, as `world_model.augment.perturb`."""
        size = vectors[0].numel()
        drawn = self._uniforms(row, _VECTORS + view, 3 * size).to(vectors.dtype)
        radius, angle, choice = (part.reshape(vectors.shape) for part in drawn.split(size, dim=1))
        # Box and Muller 1958; 1 - u lies in (0, 1]
        noise = (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()
        is_kept = choice >= self._encoder.proprio_dropout
        return (vectors + self._encoder.proprio_noise * noise) * is_kept

    def _uniforms(self, row: Tensor, view: int, count: int = UNIFORMS) -> Tensor:
        return keyed_uniforms(row, seed=self._seed, update=self._update, view=view, count=count)


class Unchanged:
    """Observations as they were recorded."""

    def images(self, images: Tensor, row: Tensor, view: int) -> Tensor:
        """The images."""
        return images

    def vectors(self, vectors: Tensor, row: Tensor, view: int) -> Tensor:
        """The vectors."""
        return vectors
