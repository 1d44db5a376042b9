"""Pictures of bonuses: which moments they choose, and what they draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.evaluation.inspection.frame_panels import Line, Panel, draw_under_frames
from agent.evaluation.inspection.novelty_pictures import Moment, draw_bonus, draw_novelty, extremes
from envs.recording import Episode
from tests.physics import make_episode

STEPS = 12
SHADES = 15  # of grey, from one observation to the next


def shaded(number: int) -> Episode:
    """An episode whose frames are plain: observation t of episode e has shade 15 t in channel e."""
    episode = make_episode(np.zeros((STEPS + 1, 2)))
    frame = np.zeros((STEPS + 1, 3, 8, 8), np.uint8)
    frame[:, number] = (SHADES * np.arange(STEPS + 1))[:, None, None]
    return replace(episode, frame=frame, info=replace(episode.info, episode=number))


def greedy(bonus: list[list[float]], count: int, apart: int, *, largest: bool) -> list[tuple[int, int]]:
    """One by one, the best that is far enough from all that were taken."""
    left = {(e, t): value for e, values in enumerate(bonus) for t, value in enumerate(values)}
    found: list[tuple[int, int]] = []
    while left and len(found) < count:
        best = (max if largest else min)(left.values())
        place = min(place for place, value in left.items() if value == best)
        found.append(place)
        left = {
            (e, t): value for (e, t), value in left.items() if e != place[0] or abs(t - place[1]) >= apart
        }
    return found


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 4),
    st.booleans(),
)
def test_extremes_are_those_of_a_greedy_search(
    bonus: list[list[int]], count: int, apart: int, largest: bool
) -> None:
    found = extremes([np.array(each, np.float32) for each in bonus], count, apart=apart, largest=largest)
    expected = greedy([[float(value) for value in each] for each in bonus], count, apart, largest=largest)
    assert found == [Moment(*place) for place in expected]


def test_what_is_no_number_is_neither_novel_nor_familiar() -> None:
    bonus = [np.array([np.nan, 3.0, np.inf, 1.0, -np.inf])]
    assert extremes(bonus, 9, apart=1, largest=True) == [Moment(0, 1), Moment(0, 3)]


def test_the_sheet_shows_what_the_most_and_least_novel_decisions_led_to(tmp_path: Path) -> None:
    """The shade of a frame on the sheet tells its episode and time."""
    episodes = [shaded(0), shaded(1)]
    bonus = [np.full(STEPS, 0.5), np.full(STEPS, 0.5)]
    bonus[1][7], bonus[0][2] = 0.9, 0.1
    draw_novelty(episodes, bonus, tmp_path / "new" / "sheet.png", count=3, apart=4)
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] == 1004
    assert len(pixels) == 268, "a row of each kind, with captions and labels"
    first = [pixels[row, 50].tolist() for row in (4 + 16 + 48, 4 + 132 + 16 + 48)]
    assert first == [[0, SHADES * 8, 0], [SHADES * 3, 0, 0]]
    labels = pixels[4 + 16 + 96 : 4 + 16 + 96 + 16, 4:100]
    assert np.ptp(labels) > 100, "its bonus stands below"


def test_mistakes_of_a_sheet_are_named(tmp_path: Path) -> None:
    path, episode = tmp_path / "sheet.png", shaded(0)
    with pytest.raises(ValueError, match=r"expected a bonus for 12 decisions, found \(13,\)"):
        draw_novelty([episode], [np.zeros(STEPS + 1)], path)
    with pytest.raises(ValueError, match="bonuses of 1 episodes, one at least, found 0"):
        draw_novelty([episode], [], path)
    with pytest.raises(ValueError, match="no bonus is a finite number"):
        draw_novelty([episode], [np.full(STEPS, np.nan)], path)
    blind = replace(episode, frame=episode.frame[..., :0, :0])
    with pytest.raises(ValueError, match="without frames"):
        draw_novelty([blind], [np.zeros(STEPS)], path)
    assert not path.exists()


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_bonus_stands_under_the_frames_of_its_episode(tmp_path: Path) -> None:
    episode, bonus = shaded(0), np.arange(STEPS) / STEPS
    draw_bonus(episode, {"contrastive": bonus}, tmp_path / "one.png")
    draw_bonus(episode, {"contrastive": bonus, "knn": bonus**2}, tmp_path / "two.png")
    draw_bonus(episode, {"contrastive": bonus[::-1]}, tmp_path / "other.png")
    one, two, other = (drawn(tmp_path / f"{name}.png") for name in ("one", "two", "other"))
    assert len(two) - len(one) == 270, "an axis more, 1.8 inches of 150 pixels"
    assert one.shape == other.shape
    reward, panel = slice(150, 420), slice(430, 700)
    assert (one[reward] == other[reward]).all()
    assert (one[panel] != other[panel]).any()
    film = one[120, 140:1590, 0]
    assert film[-1] == SHADES * STEPS > film[0] == 0, "from the first frame to the last"
    with pytest.raises(ValueError, match=r"knn: expected a bonus for 12 decisions, found \(13,\)"):
        draw_bonus(episode, {"knn": np.zeros(STEPS + 1)}, tmp_path / "wrong.png")


def test_lines_are_of_decisions_or_observations(tmp_path: Path) -> None:
    episode = make_episode(np.zeros((STEPS + 1, 2)))
    blind = replace(episode, frame=episode.frame[..., :0, :0])
    for count in (STEPS, STEPS + 1):
        panel = Panel("value", [Line(np.arange(count) * 1.0, "mine"), Line(np.zeros(count))])
        draw_under_frames(blind, [panel], "an episode", tmp_path / f"{count}.png")
        assert np.ptp(drawn(tmp_path / f"{count}.png")[100:-100, 200:-100]) > 200, "lines are there"
    with pytest.raises(ValueError, match=r"value: expected 12 or 13 numbers, found \(11,\)"):
        panel = Panel("value", [Line(np.zeros(STEPS - 1))])
        draw_under_frames(episode, [panel], "an episode", tmp_path / "wrong.png")
