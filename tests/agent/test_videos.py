from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agent.evaluation.videos import episode_captions, write_gif

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
FRAMES = np.broadcast_to(COLOURS[:, None, None], (3, 8, 10, 3)).copy()


def test_gif_shows_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "new" / "episode.gif"
    write_gif(FRAMES, path, fps=20, scale=3)
    with Image.open(path) as gif:
        assert (gif.size, gif.n_frames, gif.info["duration"], gif.info["loop"]) == ((30, 24), 3, 50, 0)  # type: ignore[attr-defined]
        for t, colour in enumerate(COLOURS):
            gif.seek(t)
            shown = np.asarray(gif.convert("RGB"), np.int64)
            assert np.abs(shown - colour).max() <= 4


def test_captions_stand_below(tmp_path: Path) -> None:
    plain, captioned = tmp_path / "plain.gif", tmp_path / "captioned.gif"
    write_gif(FRAMES, plain, fps=20, scale=10)
    write_gif(FRAMES, captioned, fps=20, scale=10, captions=["a", "b", "c"])
    with Image.open(plain) as one, Image.open(captioned) as other:
        assert other.width == one.width
        assert other.height > one.height
        picture = np.asarray(other.convert("RGB"), np.int64)
    assert np.abs(picture[: one.height] - COLOURS[0]).max() <= 12
    assert picture[one.height :].max() > 150, "no text"


def test_captions_count_frames_and_return() -> None:
    assert episode_captions([1.4, 2.0], [4, 2]) == [
        "frame 0   return 0",
        "frame 4   return 1",
        "frame 6   return 3",
    ]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (FRAMES.astype(np.float32), {}, "float32"),
        (FRAMES[..., :2], {}, r"\(3, 8, 10, 2\)"),
        (FRAMES[:0], {}, r"\(0, 8, 10, 3\)"),
        (FRAMES, {"fps": 0}, "fps > 0"),
        (FRAMES, {"scale": 0}, "scale >= 1"),
        (FRAMES, {"captions": ["one"]}, "3 captions"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, frames: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_gif(frames, tmp_path / "never.gif", **({"fps": 20} | options))
    assert not list(tmp_path.iterdir())
