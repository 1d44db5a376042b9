"""Pixels to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import WorldModelOptions
from world_model.layers import SimNorm

STRIDES = (2, 2, 1, 1)
# images convolved at once on a CPU, so that activations stay in its cache: 47 -> 20 ms for 256 stacks
CPU_CHUNK = 16


class PixelEncoder(nn.Module):
    """Four 3x3 convolutions, then linear -> LayerNorm -> SimNorm.

    Pixels are mapped from [0, 255] to [-0.5, 0.5] inside the first convolution, whose weights are
    rescaled instead of the (much larger) images.
    """

    def __init__(self, obs_shape: tuple[int, int, int], options: WorldModelOptions) -> None:
        """Draw the weights for observations (C, H, W)."""
        super().__init__()
        in_channels, channels = obs_shape[0], options.encoder.channels
        self.crop = options.encoder.crop
        layers = [
            nn.Conv2d(in_channels if i == 0 else channels, channels, kernel_size=3, stride=stride)
            for i, stride in enumerate(STRIDES)
        ]
        for layer in layers:
            weight, bias = layer.parameters()
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            nn.init.zeros_(bias)
        self.first, self.others = layers[0], nn.ModuleList(layers[1:])
        with torch.no_grad():
            features = self._convolve(torch.zeros(1, *obs_shape, dtype=torch.uint8)).numel()
        self.linear = nn.Linear(features, options.latent_dim)
        self.norm = nn.Sequential(nn.LayerNorm(options.latent_dim), SimNorm(options.simnorm_group))
        self.reduced = options.encoder.precision == "bfloat16"

    def _convolve(self, obs: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> (B, features)."""
        if self.crop:
            top, left = ((side - self.crop) // 2 for side in obs.shape[2:])
            obs = obs[:, :, top : top + self.crop, left : left + self.crop]
        weight, bias = self.first.parameters()
        # bfloat16 holds every integer up to 256
        dtype = torch.bfloat16 if torch.is_autocast_enabled(obs.device.type) else weight.dtype
        x = obs.to(dtype, memory_format=torch.channels_last)
        offset = bias - 0.5 * weight.sum(dim=(1, 2, 3))
        x = F.conv2d(x, weight / 255.0, offset, stride=STRIDES[0]).relu_()
        for layer in self.others:
            x = layer(x).relu_()
        return x.flatten(1)

    def forward(self, obs: Tensor) -> Tensor:
        """Encode observations.

        Args:
            obs: stacked frames, uint8 [0, 255], (B, C, H, W).

        Returns:
            Latents, (B, Z); each SimNorm group sums to one.
        """
        chunks = obs.split(CPU_CHUNK) if obs.device.type == "cpu" else (obs,)
        with torch.autocast(obs.device.type, torch.bfloat16, enabled=self.reduced, cache_enabled=False):
            x = self.linear(torch.cat([self._convolve(chunk) for chunk in chunks]))
        return self.norm(x.to(self.linear.weight.dtype))
