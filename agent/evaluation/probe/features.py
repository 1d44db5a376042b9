"""What encoders, and what stands beside them, make of recorded observations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agent.evaluation.probe.data import ProbeData
from world_model.augment import draw_shifts, shift
from world_model.encoder import Encoder, EncoderFacts
from world_model.probing import Features

RAW_SIDE = 12
"""Raw pixels are frames scaled down to so many pixels a side, each the mean of those it covers."""

_ROWS = 256  # observations encoded at once
_BATCH = 64
_LEARNING_RATE = 3e-4


@torch.no_grad()
def encoded(encoder: Encoder, data: ProbeData, device: torch.device) -> Features:
    """Latents of all rows, float32 (N, Z)."""
    encoder = encoder.to(device)
    found = [
        encoder(*(each.to(device) for each in observed(encoder.facts, data, rows))).float().cpu()
        for rows in np.array_split(np.arange(len(data.time)), -(-len(data.time) // _ROWS))
    ]
    features: Features = torch.cat(found).numpy()
    return features


def observed(facts: EncoderFacts, data: ProbeData, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """What an encoder looks at in some rows: stacked frames and perceived vectors, empty where unseen."""
    pixels, proprio = torch.zeros(len(rows), 0, dtype=torch.uint8), torch.zeros(len(rows), 0)
    if "pixels" in facts.obs:
        pixels = data.stacks(rows, facts.stack)
    if "state" in facts.obs:
        proprio = data.proprio(rows)
    return pixels, proprio


def raw_pixels(data: ProbeData, stack: int) -> Features:
    """Stacked frames in [0, 1], scaled down to `RAW_SIDE` pixels a side, float32 (N, 3 * stack * side²)."""
    found = []
    for rows in np.array_split(np.arange(len(data.time)), -(-len(data.time) // _ROWS)):
        small = F.adaptive_avg_pool2d(data.stacks(rows, stack).float() / 255, RAW_SIDE)
        found.append(small.flatten(1))
    features: Features = torch.cat(found).numpy()
    return features


def random_encoder(facts: EncoderFacts, seed: int = 0) -> Encoder:
    """An encoder that learnt nothing; the seed is the same for every probe."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return facts.build()


def supervised_encoder(
    facts: EncoderFacts, data: ProbeData, updates: int, device: torch.device, seed: int = 0
) -> Encoder:
    """An encoder that learnt the state itself from the training episodes: what labels are worth.

    A linear head on the latents predicts standardised variables (mean squared error, Adam, frames shifted as
    the encoder's augmentation does); it is thrown away.

    Args:
        facts: the architecture.
        data: with labels.
        updates: gradient steps.
        device: where to train.
        seed: of weights, batches and shifts.
    """
    encoder = random_encoder(facts, seed).to(device)
    labels = torch.from_numpy(np.concatenate([data.columns(each) for each in data.variables], axis=1))
    train = data.split.train
    mean, deviation = labels[train].mean(dim=0), labels[train].std(dim=0).clamp_min(1e-6)
    labels = ((labels - mean) / deviation).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(facts.latent_dim, labels.shape[1]).to(device)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=_LEARNING_RATE)
    for _ in range(updates):
        rows = rng.choice(train, _BATCH)
        pixels, proprio = observed(facts, data, rows)
        if pixels.numel():
            pixels = shift(pixels, draw_shifts(len(rows), facts.encoder.shift_padding, generator))
        prediction = head(encoder(pixels.to(device), proprio.to(device)))
        loss = F.mse_loss(prediction, labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.requires_grad_(False)
