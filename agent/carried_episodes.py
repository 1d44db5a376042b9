"""Experience that a run takes over from the one it starts from, with the rewards of its own task.

It lies in a store of its own inside the run directory, `episodes-before/`, so that nothing else is needed
when the run goes on, and what the run counts, numbers and drops is its own. In the replay it comes first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from agent.loading import Predecessor
from agent.replay import Replay
from agent.stopping import StopRequest
from configs.load import ConfigError
from configs.schema import Config
from envs.episodes import EARLIER, EpisodeStore
from envs.recording import Episode

Relabel = Callable[[Episode], Episode]


def carry_over(
    predecessor: Predecessor, run_dir: Path, config: Config, relabel: Relabel | None, stop: StopRequest
) -> int:
    """Fill a run's store of earlier episodes; one that an interrupted start left behind is made anew.

    Where that fails, none is left.

    Args:
        predecessor: the run whose newest episodes are taken, as many as find room in the replay, in their
            order: those that it has taken over itself, and its own ones up to its checkpoint.
        run_dir: of the run that starts.
        config: of that run.
        relabel: gives an episode the rewards of the run's task; None: they are its own.
        stop: checked after every episode; a run that is stopped so early has to start again.

    Returns:
        How many were taken.

    Raises:
        ConfigError: there are none, or none that finds room.
        EpisodeError: an episode cannot be read.
    """
    forget(run_dir)
    stored = _stored(predecessor)
    if not stored:
        raise ConfigError(
            f"{predecessor.path / 'episodes'} holds no episodes: put them back, or carry no replay over: "
            "--from-replay none"
        )
    chosen = _newest(stored, config.replay.capacity)
    if not chosen:
        raise ConfigError(
            f"{predecessor.path} holds no episode that finds room in "
            f"replay.capacity {config.replay.capacity}: raise it, or carry no replay over: --from-replay none"
        )
    target = EpisodeStore(run_dir / EARLIER)
    shows_nothing = not config.logging.progress
    try:
        for store, identifier in tqdm(chosen, "carrying episodes over", disable=shows_nothing, leave=False):
            episode = store.read(identifier)
            episode = relabel(episode) if relabel else episode
            target.commit(replace(episode, info=replace(episode.info, episode=len(target))))
            if stop.requested:
                break
    except Exception:
        forget(run_dir)
        raise
    return len(target)


def forget(run_dir: Path) -> None:
    """Remove what a start that was interrupted had taken over, if anything."""
    with suppress(FileNotFoundError):
        shutil.rmtree(run_dir / EARLIER)


def _stored(predecessor: Predecessor) -> list[tuple[EpisodeStore, int]]:
    """Episodes that led to a run's checkpoint, in the order of their ends: those it took over come first."""
    earlier = open_carried_store(predecessor.config, predecessor.path)
    own = EpisodeStore(predecessor.path / "episodes")
    episodes = [(earlier, identifier) for identifier in earlier.ids()] if earlier is not None else []
    return episodes + [(own, each) for each in own.ids() if each < predecessor.stored_episodes]


def _newest(episodes: Sequence[tuple[EpisodeStore, int]], capacity: int) -> list[tuple[EpisodeStore, int]]:
    """The last ones that have so many observations together, at most."""
    first = len(episodes)
    while first > 0:
        store, identifier = episodes[first - 1]
        capacity -= store.layout(identifier).steps + 1
        if capacity < 0:
            break
        first -= 1
    return list(episodes[first:])


def open_carried_store(config: Config, run_dir: Path) -> EpisodeStore | None:
    """The store that `carry_over` filled; None for a run that takes no experience over."""
    if config.from_run is None or config.from_replay == "none":
        return None
    return EpisodeStore(run_dir / EARLIER)


def without_random_start(config: Config) -> Config:
    """The options of a run that has experience to learn from at once."""
    return config.model_copy(update={"training": config.training.model_copy(update={"random_frames": 0})})


def refill(replay: Replay, carried_store: EpisodeStore) -> None:
    """Begin an empty replay with earlier episodes, numbered from 0."""
    steps = [carried_store.layout(identifier).steps for identifier in carried_store.ids()]
    replay.restore(carried_store, replay.laid_out(steps))
