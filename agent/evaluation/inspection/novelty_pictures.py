"""Pictures of exploration bonuses: along an episode, and what is most and least novel in many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.inspection.frame_panels import Line, Panel, draw_under_frames
from envs.datasets.sheets import Row, draw_rows
from envs.recording import Episode

Bonus = NDArray[np.floating[Any]]

_COLUMNS = 10  # frames side by side


def draw_bonus(episode: Episode, bonuses: Mapping[str, Bonus], path: Path | str) -> None:
    """Frames of an episode, and below them its rewards and, each on an axis of its own, bonuses.

    Args:
        episode: of T decisions.
        bonuses: by name, of each decision, (T,).
        path: the PNG; its directory is made.

    Raises:
        ValueError: a bonus has another number of decisions.
    """
    for name, bonus in bonuses.items():
        _check(name, bonus, episode)
    panels = [Panel("reward", [Line(episode.reward)])]
    panels += [Panel(name, [Line(bonus)]) for name, bonus in bonuses.items()]
    sums = ", ".join(f"{name} {np.sum(bonus, dtype=np.float64):.4g}" for name, bonus in bonuses.items())
    heading = f"return {episode.episode_return:.0f}; over the episode: {sums}"
    draw_under_frames(episode, panels, heading, path)


class Moment(NamedTuple):
    """A decision of one of several episodes: index of the episode, and time of the decision."""

    episode: int
    time: int


def extremes(bonus: Sequence[Bonus], count: int, *, apart: int, largest: bool) -> list[Moment]:
    """Decisions with the largest or the smallest bonus, no two of them close together in one episode.

    Without that, neighbours of a single moment would take all places.

    Args:
        bonus: of each episode's decisions, (T,); what is not finite is left out.
        count: how many to find; fewer where there are no more.
        apart: least distance of two in an episode, in decisions, >= 1.
        largest: whether the largest are looked for.

    Returns:
        The most extreme first; of equal ones the earlier.
    """
    values = np.concatenate([np.asarray(each, np.float64) for each in bonus])
    episode = np.repeat(np.arange(len(bonus)), [len(each) for each in bonus])
    time = np.concatenate([np.arange(len(each)) for each in bonus])
    order = np.argsort(-values if largest else values, kind="stable")
    chosen: list[Moment] = []
    taken = np.zeros(len(values), bool)
    for place in order[np.isfinite(values[order])]:
        if len(chosen) == count:
            break
        if not taken[place]:
            moment = Moment(int(episode[place]), int(time[place]))
            chosen.append(moment)
            taken |= (episode == moment.episode) & (np.abs(time - moment.time) < apart)
    return chosen


def draw_novelty(
    episodes: Sequence[Episode], bonus: Sequence[Bonus], path: Path, *, count: int = 20, apart: int = 10
) -> None:
    """A contact sheet of what the most and the least novel decisions led to, with bonus, episode and time.

    Args:
        episodes: with frames.
        bonus: of the decisions of each episode, (T,): that of decision t is shown with observation t + 1.
        path: the PNG; its directory is made.
        count: frames of either kind; those of an episode are `apart` decisions from one another.
        apart: as in `extremes`.

    Raises:
        ValueError: a bonus has another number of decisions than its episode, there is no episode, no finite
            bonus, or no frames.
        OSError: it cannot be written.
    """
    if len(episodes) != len(bonus) or not len(episodes):
        raise ValueError(f"expected bonuses of {len(episodes)} episodes, one at least, found {len(bonus)}")
    for each, values in zip(episodes, bonus, strict=True):
        _check(f"episode {each.info.episode}", values, each)
        if not each.frame.size:
            raise ValueError(
                f"episode {each.info.episode} was recorded without frames: there is none to show"
            )
    rows = []
    for name, largest in (("most novel", True), ("least novel", False)):
        found = extremes(bonus, count, apart=apart, largest=largest)
        if not found:
            raise ValueError("no bonus is a finite number")
        rows += _rows(name, found, episodes, bonus)
    draw_rows(rows, path, _COLUMNS)


def _rows(
    name: str, found: Sequence[Moment], episodes: Sequence[Episode], bonus: Sequence[Bonus]
) -> list[Row]:
    rows = []
    for start in range(0, len(found), _COLUMNS):
        part = found[start : start + _COLUMNS]
        caption = f"{name}, {start + 1} to {start + len(part)}: bonus, episode:observation"
        frames = [episodes[each.episode].frame[each.time + 1] for each in part]
        labels = [
            f"{bonus[each.episode][each.time]:.3g}  {episodes[each.episode].info.episode}:{each.time + 1}"
            for each in part
        ]
        rows.append(Row(caption, frames, labels))
    return rows


def _check(name: str, bonus: Bonus, episode: Episode) -> None:
    if bonus.shape != (episode.steps,):
        raise ValueError(f"{name}: expected a bonus for {episode.steps} decisions, found {bonus.shape}")
