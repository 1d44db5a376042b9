from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agent.evaluation.view_previews import draw_preview
from configs.views import RECIPES, ViewOptions

RED, BLUE = (255, 0, 0), (0, 0, 255)


def stacks(count: int, side: int = 64) -> torch.Tensor:
    """Frames are blue, but the newest, which is red with a white upper half."""
    frames = torch.tensor([BLUE, BLUE, RED], dtype=torch.uint8).view(1, 9, 1, 1).repeat(count, 1, side, side)
    frames[:, 6:, : side // 2] = 255
    return frames


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).sum())


def test_preview_shows_each_newest_frame_and_two_views(tmp_path: Path) -> None:
    path = tmp_path / "new" / "preview.png"
    draw_preview(stacks(4), ViewOptions(), path, across=2)
    picture = pixels(path)
    assert count_of(picture, RED) == 4 * 3 * 128 * 64, "three pictures a sample, twice as large, half red"
    assert count_of(picture, BLUE) == 0, "of the newest frame alone"
    is_red = (picture == RED).all(-1)
    starts = (is_red[:, 1:] & ~is_red[:, :-1]).sum(1).max()
    assert starts == 2 * 3, "two samples side by side"


def test_views_are_those_of_the_options_and_differ(tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    draw_preview(stacks(1, side=128), ViewOptions(solarise=0.0, solarise_second=1.0), path)
    picture = pixels(path)
    assert count_of(picture, RED) == 2 * 128 * 64, "the original and the first view"
    assert count_of(picture, (0, 255, 255)) == 0, "solarising turns 255 and leaves 0"
    assert count_of(picture, (0, 0, 0)) == 128 * 128


def test_preview_is_determined_by_its_seed(tmp_path: Path) -> None:
    noise = torch.randint(
        0, 256, (5, 9, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        draw_preview(noise, RECIPES["byol"], path, seed=seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other


def test_views_may_be_smaller_than_frames(tmp_path: Path) -> None:
    draw_preview(stacks(2, side=100), RECIPES["curl"], tmp_path / "preview.png")
    assert count_of(pixels(tmp_path / "preview.png"), RED) > 2 * 100 * 50


@pytest.mark.parametrize("wrong", [torch.zeros(0, 9, 32, 32, dtype=torch.uint8), torch.zeros(2, 9, 32, 32)])
def test_samples_must_be_frames(wrong: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected samples uint8"):
        draw_preview(wrong, ViewOptions(), tmp_path / "preview.png")
    assert not (tmp_path / "preview.png").exists()
