"""Observations to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.options import NonNegative, Options, Positive
from configs.schema import ObsName
from configs.world_model import EncoderOptions, WorldModelOptions
from envs.spec import EnvSpec
from world_model.heads import symlog
from world_model.layers import SimNorm, mlp

STRIDES = (2, 2, 1, 1)
# images convolved at once on a CPU, so that activations stay in its cache: 47 -> 20 ms for 256 stacks
CPU_CHUNK = 16


class EncoderFacts(Options):
    """What has to be known to build an encoder again, whatever it was learnt for."""

    obs: ObsName
    """What it looks at."""
    frame_shape: tuple[Positive, NonNegative, NonNegative]
    """One RGB frame, (3, height, width); (3, 0, 0) where nothing is drawn."""
    stack: Positive
    """Frames in an observation."""
    proprio_dim: NonNegative
    """Entries D of the task's own vector."""
    latent_dim: Positive
    """Size Z of the latent."""
    simnorm_group: Positive
    """Latent entries that share one softmax."""
    hidden_dim: Positive
    """Width of the layers that see the task's own vector."""
    encoder: EncoderOptions
    """Convolutions, precision and augmentation."""

    @classmethod
    def of(cls, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> EncoderFacts:
        """Those of the encoder that `Encoder` builds from the same arguments."""
        return cls(
            obs=obs,
            frame_shape=env_spec.frame_shape,
            stack=env_spec.stack,
            proprio_dim=env_spec.proprio_dim,
            latent_dim=options.latent_dim,
            simnorm_group=options.simnorm_group,
            hidden_dim=options.hidden_dim,
            encoder=options.encoder,
        )

    @property
    def largest_weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that no other outgrows, by name, known before any is made."""
        shapes: dict[str, tuple[int, ...]] = {}
        features = 0
        if "pixels" in self.obs:
            shapes["pixels.others.0.weight"] = (self.encoder.channels, self.encoder.channels, 3, 3)
            features += _features_of((3 * self.stack, *self.frame_shape[1:]), self.encoder)
        if "state" in self.obs:
            shapes["proprio.0.weight"] = (self.hidden_dim, self.proprio_dim)
            shapes["proprio.3.weight"] = (self.hidden_dim, self.hidden_dim)
            features += self.hidden_dim
        return shapes | {"linear.weight": (self.latent_dim, features)}

    def build(self) -> Encoder:
        """An encoder with weights of torch's global generator."""
        env_spec = EnvSpec(  # all an encoder knows of a task are its observations
            task="",
            frame_shape=self.frame_shape,
            stack=self.stack,
            action_dim=0,
            action_repeat=1,
            episode_frames=1,
            can_terminate=False,
            physics_dim=0,
            look="fast",
            proprio_dim=self.proprio_dim,
        )
        options = WorldModelOptions(
            encoder=self.encoder,
            latent_dim=self.latent_dim,
            simnorm_group=self.simnorm_group,
            hidden_dim=self.hidden_dim,
        )
        return Encoder(env_spec, options, self.obs)


class Encoder(nn.Module):
    """What the agent observes, pixels, proprioception or both -> linear -> LayerNorm -> SimNorm.

    Attributes:
        facts: what it was built from.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw the weights for the observations of a task, of which only `obs` is looked at."""
        super().__init__()
        self.facts = EncoderFacts.of(env_spec, options, obs)
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
        self.features = _features_of(obs_shape, options)

    def forward(self, obs: Tensor) -> Tensor:
        """[0, 255], uint8 or floating point, (B, C, H, W) -> (B, F)."""
        if obs.device.type != "cpu" or torch.compiler.is_exporting():  # a program for any number of rows
            return self._convolve(obs)
        chunks = obs.split(CPU_CHUNK)
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


def _features_of(obs_shape: tuple[int, int, int], options: EncoderOptions) -> int:
    """Entries that the convolutions make of an observation (C, H, W)."""
    features = options.channels
    for side in obs_shape[1:]:
        left = options.crop or side
        for stride in STRIDES:
            left = (left - 3) // stride + 1
        if left < 1:
            raise ValueError(f"four convolutions leave nothing of frames of {obs_shape[1]} x {obs_shape[2]}")
        features *= left
    return features


def perceived(proprio: Tensor) -> Tensor:
    """The task's own vectors on the symlog axis, where large entries do not drown small ones; same shape."""
    return symlog(proprio)
