"""Each operation against NumPy, SciPy, Pillow or colorsys."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from world_model.views.blur import gaussian_blur
from world_model.views.colour import greyscale, jitter, solarise
from world_model.views.geometry import cut_out, mirror, resize_crop

IDENTITY = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)


def noise(rows: int, height: int = 12, width: int = 15, *, frames: int = 2, seed: int = 0) -> Tensor:
    """Bytes as float64, (rows, 3 * frames, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3 * frames, height, width), generator=generator).double()


def colours(rows: int) -> Tensor:
    """Rows of one frame that hold greys, primaries and ties beside noise, (rows, 3, 4, 30)."""
    levels = torch.tensor([0.0, 1.0, 128.0, 200.0, 255.0], dtype=torch.float64)
    special = torch.cartesian_prod(levels, levels, levels)[:120].T.reshape(3, 4, 30)
    return torch.stack([special if row % 2 else noise(1, 4, 30, frames=1)[0] for row in range(rows)])


def as_pillow(frame: Tensor) -> Image.Image:
    return Image.fromarray(frame.byte().permute(1, 2, 0).numpy())


def bilinear(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """One channel, one output pixel at a time."""
    height, width = image.shape
    top, left, box_height, box_width = box
    result = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            y = min(max(top + (i + 0.5) * box_height / height - 0.5, 0.0), height - 1.0)
            x = min(max(left + (j + 0.5) * box_width / width - 0.5, 0.0), width - 1.0)
            value = 0.0
            for row in range(height):
                for column in range(width):
                    value += max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column)) * image[row, column]
            result[i, j] = value
    return result


@settings(deadline=None, max_examples=25)
@given(
    shares=st.tuples(*4 * [st.floats(0, 1)]),
    height=st.integers(2, 7),
    width=st.integers(2, 7),
)
def test_resized_crop_is_bilinear(shares: tuple[float, float, float, float], height: int, width: int) -> None:
    box_height, box_width = max(0.01, shares[0] * height), max(0.01, shares[1] * width)
    box = [shares[2] * (height - box_height), shares[3] * (width - box_width), box_height, box_width]
    image = noise(1, height, width, frames=1)
    found = resize_crop(image, torch.tensor([box], dtype=torch.float64))
    for channel in range(3):
        expected = bilinear(image[0, channel].numpy(), np.array(box))
        np.testing.assert_allclose(found[0, channel], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resized_crop_equals_pillow(dtype: torch.dtype) -> None:
    boxes = torch.tensor(
        [[0, 0, 12, 15], [2, 3, 6, 10], [0.4, 5.7, 5.2, 9.3], [11, 14, 1, 1]], dtype=torch.float64
    )
    images = noise(len(boxes))
    found = resize_crop(images.to(dtype), boxes)
    assert found.dtype == dtype
    for image, view, (top, left, height, width) in zip(images, found, boxes.tolist(), strict=True):
        for channel, result in zip(image, view, strict=True):
            picture = Image.fromarray(channel.float().numpy(), mode="F")
            box = (left, top, left + width, top + height)
            expected = np.asarray(picture.resize((15, 12), Image.Resampling.BILINEAR, box=box))
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-3)
    assert torch.equal(found[0], images[0].to(dtype)), "the whole frame is left as it is"


def test_mirror_equals_pillow() -> None:
    image = noise(1, frames=1)
    np.testing.assert_array_equal(
        mirror(image)[0].permute(1, 2, 0), np.asarray(ImageOps.mirror(as_pillow(image[0])))
    )


def test_cut_out_covers_its_box_alone() -> None:
    images = noise(3)
    boxes = [[0, 0, 1, 1], [2, 5, 7, 15], [11, 3, 12, 4]]
    for dtype in (torch.uint8, torch.float32):
        found = cut_out(images.to(dtype), torch.tensor(boxes, dtype=torch.float64))
        expected = images.to(dtype).numpy().copy()
        for image, (top, left, bottom, right) in zip(expected, boxes, strict=True):
            image[:, top:bottom, left:right] = 128
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == dtype


def grey_of(pixel: np.ndarray) -> float:
    return float(0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])


def jittered(frame: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A frame (3, H, W) pixel by pixel."""
    brightness, contrast, saturation, turns = values
    pixels = [np.clip(pixel * brightness, 0, 255) for pixel in frame.reshape(3, -1).T]
    mean = sum(map(grey_of, pixels)) / len(pixels)
    pixels = [np.clip(mean + (pixel - mean) * contrast, 0, 255) for pixel in pixels]
    pixels = [np.clip(grey_of(pixel) + (pixel - grey_of(pixel)) * saturation, 0, 255) for pixel in pixels]
    turned = []
    for pixel in pixels:
        hue, strength, value = colorsys.rgb_to_hsv(*(pixel / 255))
        turned.append(np.multiply(colorsys.hsv_to_rgb((hue + turns) % 1, strength, value), 255))
    return np.stack(turned, axis=1).reshape(frame.shape)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_jitter_equals_colorsys_pixel_by_pixel(dtype: torch.dtype, atol: float) -> None:
    values = torch.tensor(
        [
            [1, 1, 1, 0.0],
            [1, 1, 1, 0.5],
            [1, 1, 1, -0.5],
            [1, 1, 1, 0.2],
            [1, 1, 1, -1 / 3],
            [0.3, 1, 1, 0],
            [1.7, 1, 1, 0],
            [1, 0, 1, 0],
            [1, 1.6, 1, 0],
            [1, 1, 0, 0.3],
            [1, 1, 1.8, 0],
            [0.7, 1.5, 0.4, 0.17],
            [1.4, 0.6, 1.6, -0.11],
        ],
        dtype=torch.float64,
    )
    images = colours(len(values))
    found = jitter(images.to(dtype), values)
    assert found.dtype == dtype
    for image, value, result in zip(images, values, found, strict=True):
        np.testing.assert_allclose(result, jittered(image.numpy(), value.numpy()), rtol=0, atol=atol)


@settings(deadline=None, max_examples=60)
@given(
    pixel=st.tuples(*3 * [st.floats(0, 255, width=32)]),
    turns=st.floats(-0.5, 0.5, allow_subnormal=False),
)
def test_hue_of_any_colour_moves_as_in_colorsys(pixel: tuple[float, float, float], turns: float) -> None:
    image = torch.tensor(pixel, dtype=torch.float64).view(1, 3, 1, 1)
    values = IDENTITY.clone()
    values[3] = turns
    hue, strength, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
    expected = np.multiply(colorsys.hsv_to_rgb((hue + turns) % 1, strength, value), 255)
    np.testing.assert_allclose(jitter(image, values[None])[0, :, 0, 0], expected, atol=1e-8)


def test_jitter_means_what_pillow_means() -> None:
    """Pillow rounds after each step, and has no hue."""
    image = noise(1, frames=1)
    for entry, enhance in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        for factor in (0.5, 1.5):
            values = IDENTITY.clone()
            values[entry] = factor
            expected = np.asarray(enhance(as_pillow(image[0])).enhance(factor)).astype(float)
            found = jitter(image, values[None])[0].permute(1, 2, 0)
            np.testing.assert_allclose(found, expected, atol=1.5)


def test_jitter_without_strength_changes_nothing() -> None:
    images = colours(2)
    torch.testing.assert_close(jitter(images, IDENTITY.expand(2, 4)), images, rtol=0, atol=1e-10)
    single = images.float()
    torch.testing.assert_close(jitter(single, IDENTITY.expand(2, 4)), single, rtol=0, atol=1e-4)


def test_frames_of_a_stack_are_jittered_each_by_itself() -> None:
    images = noise(2, frames=3)
    values = torch.tensor([[0.8, 1.4, 0.5, 0.1], [1.2, 0.4, 1.3, -0.2]], dtype=torch.float64)
    frames = [jitter(frame, values) for frame in images.split(3, dim=1)]
    torch.testing.assert_close(jitter(images, values), torch.cat(frames, dim=1))


def test_greys_equal_pillow() -> None:
    image = noise(1, frames=1)
    found = greyscale(image)[0]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    np.testing.assert_allclose(found[0], np.asarray(as_pillow(image[0]).convert("L")), atol=0.51)
    exact = np.einsum("c,chw->hw", [0.299, 0.587, 0.114], image[0].numpy())
    np.testing.assert_allclose(found[0], exact, rtol=1e-12)


def test_solarise_equals_pillow() -> None:
    image = torch.arange(255).repeat(3)[: 3 * 250].view(1, 3, 10, 25).byte()
    expected = np.asarray(ImageOps.solarize(as_pillow(image[0]), threshold=128))
    np.testing.assert_array_equal(solarise(image)[0].permute(1, 2, 0), expected)
    assert torch.equal(solarise(image.float()), solarise(image).float())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (84, 84), (100, 100), (33, 50), (20, 9)])
def test_blur_equals_scipy(height: int, width: int) -> None:
    sigma = torch.tensor([[0.1], [0.7], [2.0]], dtype=torch.float64)
    images = noise(3, height, width, frames=1)
    radius = max(1, (height // 10) // 2)
    for dtype, atol in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        found = gaussian_blur(images.to(dtype), sigma)
        assert found.dtype == dtype
        for image, deviation, result in zip(images, sigma.flatten().tolist(), found, strict=True):
            expected = scipy.ndimage.gaussian_filter(
                image.numpy(), deviation, mode="mirror", radius=radius, axes=(1, 2)
            )
            np.testing.assert_allclose(result, expected, atol=atol)


def test_blur_without_strength_changes_nothing() -> None:
    images = noise(2).float()
    assert torch.equal(gaussian_blur(images, torch.tensor([[1e-3], [1e-300]], dtype=torch.float64)), images)


def test_blur_keeps_within_the_range() -> None:
    for level in (0.0, 255.0):
        flat = torch.full((40, 3, 40, 40), level)
        found = gaussian_blur(flat, torch.linspace(0.1, 3, 40, dtype=torch.float64)[:, None])
        assert float(found.max()) <= 255
        torch.testing.assert_close(found, flat, rtol=1e-6, atol=0)


def test_radius_is_that_of_simclr() -> None:
    """A single bright pixel shows how far the kernel reaches: 224 pixels, 23 of them."""
    for height, expected in ((224, 23), (100, 11), (84, 9), (64, 7)):
        image = torch.zeros(1, 3, height, height)
        image[:, :, height // 2, height // 2] = 255
        found = gaussian_blur(image, torch.tensor([[50.0]], dtype=torch.float64))
        assert int((found[0, 0, height // 2] > 0).sum()) == expected
