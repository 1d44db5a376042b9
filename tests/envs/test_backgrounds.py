from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
from PIL import Image

from envs import backgrounds
from envs.backgrounds import Clip, DistractorError, Waves, load_clip, split_clips

Colour = tuple[int, int, int]
WriteImage = Callable[[str, Colour], Path]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def waves(seed: int = 0, *, size: int = 64, speed: float = 1 / 64) -> Waves:
    return Waves(np.random.default_rng(seed), size=size, speed=speed)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.fixture
def write_image(tmp_path: Path) -> WriteImage:
    """Writes an image of one colour into the folder of the test."""

    def write(name: str, colour: Colour) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), colour).save(path)
        return path

    return write


def test_a_pattern_is_determined_by_its_generator() -> None:
    picture = waves(3).picture(7)
    assert picture.dtype == np.uint8 and picture.shape == (64, 64, 3)
    np.testing.assert_array_equal(picture, waves(3).picture(7))
    assert difference(picture, waves(4).picture(7)) > 20


def test_a_single_wave_travels_along_its_own_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Central differences of sin(kx + ly + wt) along x, y and t are multiples of one another."""
    monkeypatch.setattr(backgrounds, "WAVES", 1)
    monkeypatch.setattr(backgrounds, "CONTRAST", 40.0)  # nothing is clipped
    for seed in range(8):
        before, now, after = (waves(seed).picture(step).astype(float) for step in (10, 11, 12))
        down = now[2:, 1:-1] - now[:-2, 1:-1]
        across = now[1:-1, 2:] - now[1:-1, :-2]
        forward = (after - before)[1:-1, 1:-1]
        _, strengths, axes = np.linalg.svd(np.stack([d.ravel() for d in (across, down, forward)], 1), False)
        assert strengths[1] < 0.15 * strengths[0], "only rounding is left"
        speed_pixels = abs(axes[0, 2]) / np.linalg.norm(axes[0, :2])
        assert 0.25 < speed_pixels < 1.1


def test_a_pattern_moves_without_jumps_and_faster_where_asked() -> None:
    for seed in range(5):
        steps = []
        for speed in (1 / 128, 1 / 64, 1 / 32):
            pattern = waves(seed, speed=speed)
            steps.append(difference(pattern.picture(100), pattern.picture(101)))
            afterwards = difference(pattern.picture(100), pattern.picture(500))
            assert 0.1 < steps[-1] < 0.4 * afterwards
        assert steps[0] < steps[1] < steps[2]


def test_a_pattern_has_contrast_in_all_colours() -> None:
    pictures = np.stack([waves(seed).picture(0) for seed in range(20)]).astype(float)
    deviations = pictures.std(axis=(1, 2))
    assert 15 < deviations.min() and deviations.max() < 90
    means = pictures.mean(axis=(1, 2), keepdims=True)
    assert means.std(axis=0).min() > 20, "patterns differ in their colours"
    waves_alone = pictures - means
    grey = waves_alone.mean(axis=-1, keepdims=True)
    assert np.abs(waves_alone - grey).mean() > 15, "and their waves are colourful"


def test_a_picture_costs_well_under_a_millisecond() -> None:
    """Loosely, because the machine may be busy: the quickest of many."""
    pattern, times = waves(), []
    for step in range(50):
        begin = time.perf_counter()
        pattern.picture(step)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1e-3


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [0, 0, 0, 0]), (2, [0, 1, 0, 1, 0]), (4, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2])],
)
def test_a_clip_runs_forwards_and_backwards(length: int, expected: list[int]) -> None:
    clip = Clip(np.arange(length, dtype=np.uint8)[:, None, None, None])
    assert [int(clip.picture(step)[0, 0, 0]) for step in range(len(expected))] == expected


@pytest.mark.parametrize(("count", "training"), [(2, 1), (3, 2), (4, 3), (5, 4), (6, 4), (9, 6), (90, 60)])
def test_the_last_third_is_for_evaluation(
    tmp_path: Path, write_image: WriteImage, count: int, training: int
) -> None:
    names = [f"{index:02d}.png" for index in range(count)]
    for name in reversed(names):
        write_image(name, RED)
    (tmp_path / ".thumbnails").write_text("hidden")
    for_training, for_evaluation = split_clips(tmp_path)
    assert [path.name for path in for_training] == names[:training]
    assert [path.name for path in for_evaluation] == names[training:]


def test_clips_are_images_animations_and_folders(tmp_path: Path, write_image: WriteImage) -> None:
    write_image("still.jpg", BLUE)
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    write_image("folder/2.png", RED)
    write_image("folder/1.png", GREEN)
    assert [len(part) for part in split_clips(tmp_path)] == [2, 1]
    loaded = {path.name: load_clip(path, 8) for path in itertools.chain(*split_clips(tmp_path))}
    assert {name: clip.shape for name, clip in loaded.items()} == {
        "animation.gif": (3, 8, 8, 3),
        "folder": (2, 8, 8, 3),
        "still.jpg": (1, 8, 8, 3),
    }
    for clip, colours in ((loaded["animation.gif"], (RED, GREEN, BLUE)), (loaded["folder"], (GREEN, RED))):
        np.testing.assert_array_equal(clip, np.broadcast_to(np.array(colours)[:, None, None], clip.shape))
        with pytest.raises(ValueError, match="read-only"):
            clip[:] = 0


def test_the_middle_of_a_picture_is_shown(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(load_clip(tmp_path / "wide.png", 10), np.full((1, 10, 10, 3), 200))


def test_a_long_clip_is_cut(tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backgrounds, "MAX_CLIP_FRAMES", 3)
    for index in range(5):
        write_image(f"clip/{index}.png", (index, 0, 0))
    assert load_clip(tmp_path / "clip", 4)[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_folder_that_cannot_be_used_is_explained(tmp_path: Path, write_image: WriteImage) -> None:
    with pytest.raises(DistractorError, match=r"cannot read the backgrounds in .*absent \(No such file"):
        split_clips(tmp_path / "absent")
    write_image("a.png", RED)
    with pytest.raises(DistractorError, match="holds 1 of the two or more clips"):
        split_clips(tmp_path)
    text = tmp_path / "b.txt"
    text.write_text("no picture")
    with pytest.raises(DistractorError, match=r"b\.txt is no picture or video that can be read"):
        split_clips(tmp_path)
    text.unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DistractorError, match="empty holds no images"):
        split_clips(tmp_path)


def write_video(path: Path, levels: Sequence[int]) -> None:
    """Frames of one grey each, 48 pixels wide and 32 high."""
    frames = np.stack([np.full((32, 48, 3), level, np.uint8) for level in levels])
    imageio.v3.imwrite(path, frames, plugin="FFMPEG", fps=10)


def test_a_video_is_a_clip(tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backgrounds, "MAX_CLIP_FRAMES", 4)
    write_image("a.png", RED)
    write_video(tmp_path / "b.MP4", [0, 50, 100, 150, 200])
    _, (video,) = split_clips(tmp_path)
    clip = load_clip(video, 8)
    assert clip.shape == (4, 8, 8, 3)
    assert np.abs(clip.astype(int) - np.array([0, 50, 100, 150])[:, None, None, None]).max() < 6


def test_a_video_that_cannot_be_decoded_is_explained(
    tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image("a.png", RED)
    (tmp_path / "b.mpg").write_bytes(b"\x00\x00\x01\xb3\x14\x00\xf0" + bytes(64))
    _, (video,) = split_clips(tmp_path)
    with pytest.raises(DistractorError, match=r"b\.mpg is damaged \([^\n]+\): replace or remove it$"):
        load_clip(video, 8)
    split_clips.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DistractorError, match=r"b\.mpg is a video, .* missing: `pip install imageio-ffmpeg`"):
        split_clips(tmp_path)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(waves().picture(0)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DistractorError, match=r"a\.png is damaged"):
        load_clip(path, 8)
