"""The random numbers behind views: drawn in turn, or made from the name of a sample alone.

Views of a sample that is keyed do not depend on the batch it is in, nor on its place there: several processes
that share a batch make the views that one would have made.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIFORMS = 28
"""Numbers a row, U: enough for all operations, whichever are chosen, so that none moves another's."""

_WORDS = 4  # of 32 bits, that one block of Philox gives
_MASK = 2**32 - 1
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def draw_uniforms(count: int, generator: torch.Generator) -> Tensor:
    """Numbers for the views of `count` rows, in [0, 1), float64 (count, U), on the generator's device."""
    return torch.rand(count, UNIFORMS, generator=generator, device=generator.device, dtype=torch.float64)


def keyed_uniforms(sample: Tensor, *, seed: int, update: int, view: int, count: int = UNIFORMS) -> Tensor:
    """Numbers that are a function of the arguments alone, row by row; the same on every device.

    Args:
        sample: which samples, int64 (B,), any values.
        seed: of the run, in [0, 2^64).
        update: or epoch: whatever tells one visit of a sample from the next, in [0, 2^32).
        view: first, second, ..., in [0, 2^16).
        count: numbers a row, U, in [1, 2^18]; fewer are the first of more.

    Returns:
        In [0, 1), float64 (B, U), on the device of `sample`.

    Raises:
        ValueError: an argument is out of range, or `sample` is not int64 (B,).
    """
    if sample.dtype != torch.int64 or sample.ndim != 1:
        raise ValueError(f"sample: expected int64 (B,), found {sample.dtype} {tuple(sample.shape)}")
    for name, value, bits in (("seed", seed, 64), ("update", update, 32), ("view", view, 16)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"{name}: expected a number in [0, 2^{bits}), found {value}")
    if not 1 <= count <= _WORDS << 16:
        raise ValueError(f"count: expected 1 to {_WORDS << 16} numbers a row, found {count}")
    block = torch.arange(-(-count // _WORDS), device=sample.device) + (view << 16)
    row = sample[:, None]
    counter = torch.broadcast_tensors(
        block, row & _MASK, (row >> 32) & _MASK, torch.tensor(update, device=sample.device)
    )
    words = philox(torch.stack(counter, dim=-1), (seed & _MASK, seed >> 32))
    return words.flatten(1)[:, :count].double() / 2**32


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Ten rounds of Philox4x32, a random function of its counter.

    Args:
        counter: words of 32 bits as int64, (..., 4).
        key: two words.

    Returns:
        Words of 32 bits as int64, (..., 4).

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.4.
    """
    word_0, word_1, word_2, word_3 = counter.unbind(-1)
    key_0, key_1 = key
    for _ in range(_ROUNDS):
        # 64-bit products: int64 wraps, and the mask takes the sign off the upper half
        product_0, product_1 = word_0 * _MULTIPLIERS[0], word_2 * _MULTIPLIERS[1]
        word_0 = ((product_1 >> 32) & _MASK) ^ word_1 ^ key_0
        word_2 = ((product_0 >> 32) & _MASK) ^ word_3 ^ key_1
        word_1, word_3 = product_1 & _MASK, product_0 & _MASK
        key_0, key_1 = (key_0 + _KEY_STEPS[0]) & _MASK, (key_1 + _KEY_STEPS[1]) & _MASK
    return torch.stack((word_0, word_1, word_2, word_3), dim=-1)
