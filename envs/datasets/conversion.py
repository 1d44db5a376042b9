"""Arrays of other projects as those of an episode: dtypes, ranges, layouts, and the shift of actions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

_ROUNDING = 1e-5


def as_numbers(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Finite numbers of a shape.

    Args:
        name: what messages call it.
        array: integers, booleans or floats.
        shape: what is expected; axes of length 1 at the end may be more or fewer; -1: any length.
        dtype: float32 or float64.

    Raises:
        ValueError: it has another shape, or holds other things.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}: expected numbers")
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == len(shape) - 1 and shape[-1] in (-1, 1):
        array = array[..., None]
    fits = array.ndim == len(shape)
    if not fits or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} has shape {array.shape}, expected {shape} (-1: any)")
    with np.errstate(over="ignore"):
        numbers: np.ndarray = np.ascontiguousarray(array, dtype)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return numbers


def as_flags(name: str, array: np.ndarray, length: int) -> np.ndarray:
    """Booleans, bool (length,), of booleans or of numbers that are 0 or 1.

    Raises:
        ValueError: it has another shape, or holds other things.
    """
    numbers = as_numbers(name, array, (length,), np.float32)
    if not np.isin(numbers, (0, 1)).all():
        raise ValueError(f"{name} holds values that are neither 0 nor 1")
    return numbers.astype(np.bool_)


def as_actions(array: np.ndarray, steps: int) -> np.ndarray:
    """Actions, float32 (steps, A), in [-1, 1].

    Raises:
        ValueError: they have another shape, or leave that range by more than rounding.
    """
    actions = as_numbers("action", array, (steps, -1), np.float32)
    if np.abs(actions).max(initial=0) > 1 + _ROUNDING:
        raise ValueError(f"action reaches {np.abs(actions).max():g}: expected [-1, 1]")
    return np.clip(actions, -1, 1)


def as_frames(images: np.ndarray, size: int | None = None) -> np.ndarray:
    """Square RGB frames.

    Args:
        images: uint8 (N, H, W, 3), (N, 3, H, W), or grey: (N, H, W), (N, H, W, 1), (N, 1, H, W).
        size: height and width of the result, to which the central square is resized; None: as they are.

    Returns:
        uint8 (N, 3, size, size).

    Raises:
        ValueError: they are something else, or not square and no size is given.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"images are {images.dtype} {images.shape}: expected uint8 (N, H, W, 3)")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {images.shape}: expected single RGB or grey ones, no stacks")
    if images.shape[1] == 1:
        images = images.repeat(3, axis=1)
    height, width = images.shape[2:]
    if size is None and height != width:
        raise ValueError(f"images are {height} x {width}: add --size N to resize their central squares")
    if size is None or (height, width) == (size, size):
        return np.ascontiguousarray(images)
    if not (height and width):
        raise ValueError("images are empty: leave --size out")
    return np.stack([resize(image.transpose(1, 2, 0), size) for image in images])


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of an image, uint8 (H, W, 3), resized: uint8 (3, size, size)."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    resized = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1).copy()


def unshift(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Action, reward and flags of an episode, from rows "action[t] led to observation[t]".

    Args:
        rows: `action`, `reward` and `discount`, and `is_terminal` if there is one, each (T + 1, ...); row 0
            came with the reset, and only its observation counts.

    Returns:
        action, reward, terminated and truncated of T decisions. Whatever does not end by termination was
        truncated: the recording stops there.

    Raises:
        ValueError: they are no such rows.
    """
    steps = len(rows["action"]) - 1
    if steps < 1:
        raise ValueError("it has no decision")
    counts = {name: len(array) for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"its arrays have different lengths: {counts}")
    later = {name: array[1:] for name, array in rows.items()}
    discount = as_numbers("discount", later["discount"], (steps,), np.float32)
    terminated = (
        as_flags("is_terminal", later["is_terminal"], steps) if "is_terminal" in rows else discount == 0
    )
    truncated = np.zeros(steps, np.bool_)
    truncated[-1] = not terminated[-1]
    return {
        "action": as_actions(later["action"], steps),
        "reward": as_numbers("reward", later["reward"], (steps,), np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }


def shift(array: np.ndarray) -> np.ndarray:
    """The inverse: rows 1 .. T, after a row 0 of zeros."""
    return np.concatenate([np.zeros_like(array[:1]), array])
