"""Generative: a decoder has to draw what was, and what will be, seen."""

from __future__ import annotations

from torch import Tensor, nn

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.objectives.base import Objective, consistency

SCALE = 8  # the decoder starts from a grid that is so many times smaller than the frame


class Reconstruction(Objective):
    """Newest frame of each observation from its latent, encoded or imagined; consistency.

    Source: Dreamer, arXiv:1912.01603, eq. 10, with mean squared error for its Gaussian of unit variance.
    Frames are not augmented, other than the encoder's input: the decoder has to undo the shift.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """Draw the decoder."""
        super().__init__(env_spec, options)
        self.decoder = Decoder(options.latent_dim, env_spec.frame_shape, options.encoder.channels)
        self.weights = {
            "observation": options.reconstruction_weight,
            "future": options.reconstruction_weight,
            "consistency": options.consistency_weight,
        }

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `observation` (B,) and `future` (B, H), mean squares of [0, 1]; `consistency` (B, H)."""
        newest = batch.frames[:, batch.stack - 1 :]  # of obs[t..t+H], (B, H + 1, 3, h, w)
        drawn = self.decoder(latents.z.flatten(0, 1)).unflatten(0, newest.shape[:2])
        error = (drawn - newest.to(drawn.dtype) / 255).square().mean(dim=(2, 3, 4))
        return {"observation": error[:, 0], "future": error[:, 1:], "consistency": consistency(latents)}


class Decoder(nn.Module):
    """Latents to frames: linear, then convolutions at an eighth, a quarter and half of the frame's size."""

    def __init__(self, latent_dim: int, frame_shape: tuple[int, int, int], channels: int) -> None:
        """Draw the weights for frames (3, h, w)."""
        super().__init__()
        self.frame_shape = frame_shape
        grid = tuple(-(-side // SCALE) for side in frame_shape[1:])  # what is too much is cut off
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 2 * channels * grid[0] * grid[1]),
            nn.Unflatten(1, (2 * channels, *grid)),
            nn.Conv2d(2 * channels, channels, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, 4 * frame_shape[0], kernel_size=3, padding=1),
            nn.PixelShuffle(2),  # the largest convolution would be at full size otherwise
        )

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, Z) -> pixels about [0, 1], (N, 3, h, w)."""
        height, width = self.frame_shape[1:]
        return self.layers(z)[..., :height, :width] + 0.5
