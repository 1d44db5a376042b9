"""Observations to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import EncoderOptions, ObsName, WorldModelOptions
from envs.spec import EnvSpec
from world_model.heads import symlog
from world_model.layers import SimNorm, mlp

STRIDES = (2, 2, 1, 1)
# images convolved at once on a CPU, so that activations stay in its cache: 47 -> 20 ms for 256 stacks
CPU_CHUNK = 16


class Encoder(nn.Module):
    """What the agent observes, pixels, proprioception or both -> linear -> LayerNorm -> SimNorm."""

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw the weights for the observations of a task, of which only `obs` is looked at."""
        super().__init__()
        features = 0
        self.pixels: Convolutions | None = None
        self.proprio: nn.Sequential | None = None
        if "pixels" in obs:
            self.pixels = Convolutions(env_spec.obs_shape, options.encoder)
            features += self.pixels.features
        if "state" in obs:
            self.proprio = mlp(env_spec.proprio_dim, options.hidden_dim, options.hidden_dim)
            features += options.hidden_dim
        self.linear = nn.Linear(features, options.latent_dim)
        self.norm = nn.Sequential(nn.LayerNorm(options.latent_dim), SimNorm(options.simnorm_group))
        self.reduced = options.encoder.precision == "bfloat16"

    def forward(self, pixels: Tensor, proprio: Tensor) -> Tensor:
        """Encode observations.

        Args:
            pixels: stacked frames, [0, 255], (B, C, H, W); uint8, or floating point as views may be.
            proprio: the task's own vectors as they are `perceived`, float32 (B, D).

        Returns:
            Latents, (B, Z); each SimNorm group sums to one.
        """
        device, dtype = self.linear.weight.device.type, self.linear.weight.dtype
        features = []
        with torch.autocast(device, torch.bfloat16, enabled=self.reduced, cache_enabled=False):
            if self.pixels is not None:
                features.append(self.pixels(pixels))
            if self.proprio is not None:
                features.append(self.proprio(proprio))
            x = self.linear(torch.cat(features, dim=1))
        return self.norm(x.to(dtype))


class Convolutions(nn.Module):
    """Four 3x3 convolutions.

    Pixels are mapped from [0, 255] to [-0.5, 0.5] inside the first one, whose weights are rescaled instead
    of the (much larger) images.

    Attributes:
        features: length F of the output.
    """

    def __init__(self, obs_shape: tuple[int, int, int], options: EncoderOptions) -> None:
        """Draw the weights for observations (C, H, W)."""
        super().__init__()
        in_channels, channels = obs_shape[0], options.channels
        self.crop = options.crop
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
            self.features = self._convolve(torch.zeros(1, *obs_shape, dtype=torch.uint8)).numel()

    def forward(self, obs: Tensor) -> Tensor:
        """[0, 255], uint8 or floating point, (B, C, H, W) -> (B, F)."""
        chunks = obs.split(CPU_CHUNK) if obs.device.type == "cpu" else (obs,)
        return torch.cat([self._convolve(chunk) for chunk in chunks])

    def _convolve(self, obs: Tensor) -> Tensor:
        """As `forward`, for one chunk."""
        if self.crop:
            top, left = ((side - self.crop) // 2 for side in obs.shape[2:])
            obs = obs[:, :, top : top + self.crop, left : left + self.crop]
        weight, bias = self.first.parameters()
        # bfloat16 holds every integer up to 256
        dtype = torch.bfloat16 if torch.is_autocast_enabled(obs.device.type) else weight.dtype
        # transposed as bytes, then converted: a third of the time of both at once
        x = obs.contiguous(memory_format=torch.channels_last).to(dtype)
        offset = bias - 0.5 * weight.sum(dim=(1, 2, 3))
        x = F.conv2d(x, weight / 255.0, offset, stride=STRIDES[0]).relu_()
        for layer in self.others:
            x = layer(x).relu_()
        return x.flatten(1)


def perceived(proprio: Tensor) -> Tensor:
    """The task's own vectors on the symlog axis, where large entries do not drown small ones; same shape."""
    return symlog(proprio)
