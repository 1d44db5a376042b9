"""`nearfar inspect`: what a trained agent makes of recorded episodes, and which states these visited."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from configs.load import ConfigError
from configs.options import NonNegative, Options, Positive
from scripts.options import parse_flags

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.evaluation.inspection.analysis import Seen
    from agent.loading import LoadedAgent
    from envs.recording import Episode

STARTS = 4  # states of the episode that are imagined and planned from
CANDIDATES = 200
MOST_THUMBNAILS = 1000  # TensorBoard's projector refuses a picture of much more than 8,000 pixels a side


class InspectOptions(Options):
    """Pictures of what a trained agent makes of recorded episodes, and of the states that these visited."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory of `nearfar train`; of a dataset, visited states alone are drawn."""
    episode: NonNegative | None = None
    """Stored episode to look at; unset: the newest that is long enough."""
    horizon: Positive = 8
    """Decisions imagined ahead."""
    gallery: Positive = 40
    """Newest stored episodes among whose frames imagined states are looked for."""
    variables: tuple[str, str] | None = None
    """Two variables of the physics state for the heat map of visits; unset: the first two of the task."""
    beside: tuple[Path, ...] = ()
    """Other runs or datasets of the same domain whose visits are drawn beside."""
    out: Path | None = None
    """Where the pictures go; unset: RUN/inspect."""


def main(arguments: Sequence[str]) -> int:
    """Draw; see `nearfar inspect --help`."""
    options = parse_flags(InspectOptions, "nearfar inspect", arguments)
    out = options.out or options.run / "inspect"
    if (options.run / "store.json").is_file():
        _check_no_run_is_asked_for(options)
        if not _visits(options, out):
            raise ConfigError(f"{options.run} holds no physics states: there is nothing to draw of them")
        return 0

    from agent import load_agent

    loaded = load_agent(options.run)
    chosen = chosen_episodes(options)
    _visits(options, out)
    gallery = draw_pictures(loaded, chosen, options.horizon, out)
    logs = (options.out or options.run) / "tensorboard"
    _write_embedding(gallery, logs)
    _write_images(out, logs)
    print(f"pictures of episode {gallery[0].episode.info.episode}: {out}")
    print(f"keys, point by point, and the pictures: `tensorboard --logdir {logs}`, tabs Projector and Images")
    return 0


def draw_pictures(loaded: LoadedAgent, episodes: list[Episode], horizon: int, out: Path) -> list[Seen]:
    """Draw what an agent makes of recorded episodes, and write down which they are.

    Args:
        loaded: the agent.
        episodes: the one that the pictures are of, then others to search for what was imagined.
        horizon: decisions imagined ahead, fewer than the first episode has.
        out: directory of the pictures.

    Returns:
        The episodes as the agent sees them.
    """
    from agent.evaluation.comparison.run_media import INSPECTED
    from agent.evaluation.inspection.analysis import look_at

    (out / INSPECTED).unlink(missing_ok=True)  # it is of the pictures that were there before
    gallery = [look_at(loaded.agent, episode) for episode in episodes]
    _draw(loaded.agent, gallery, horizon, out)
    _draw_novelty(loaded.agent, episodes, out)
    facts = {"frames": loaded.frames, "episode": episodes[0].info.episode}
    (out / INSPECTED).write_text(f"{json.dumps(facts)}\n", encoding="utf-8")
    return gallery


def _check_no_run_is_asked_for(options: InspectOptions) -> None:
    """Refuse what is about an agent's episodes where there is a dataset alone."""
    names = ("episode", "horizon", "gallery")
    defaults = {name: InspectOptions.model_fields[name].default for name in names}
    if chosen := [f"--{name}" for name in names if getattr(options, name) != defaults[name]]:
        raise ConfigError(
            f"{options.run} is a dataset, without an agent that {' and '.join(chosen)} could be about: "
            "leave it out, or name a run"
        )


def _visits(options: InspectOptions, out: Path) -> bool:
    from scripts.inspect_visits import show_visits

    return show_visits([options.run, *options.beside], options.variables, out)


def chosen_episodes(options: InspectOptions) -> list[Episode]:
    """The episode to look at, then the others of the gallery."""
    from envs.episodes import EpisodeStore

    if not options.run.is_dir():
        raise ConfigError(
            f"{options.run} is a checkpoint without its episodes: name the directory of the run"
        )
    store = EpisodeStore(options.run / "episodes")
    if not len(store):
        raise ConfigError(f"{options.run / 'episodes'} holds no episodes: name the directory of a run")
    identifier = options.episode
    if identifier is None:
        long_enough = (each for each in reversed(store.ids()) if store.read(each).steps > options.horizon)
        identifier = next(long_enough, store.ids()[-1])
    if identifier not in store.ids():
        raise ConfigError(f"no episode {identifier} there: it holds {store.ids()[0]} to {store.ids()[-1]}")
    chosen = store.read(identifier)
    if chosen.steps <= options.horizon:
        raise ConfigError(
            f"--horizon {options.horizon} is too long for episode {identifier}, which has {chosen.steps} "
            "decisions: lower it, or choose another --episode"
        )
    others = [other for other in store.ids() if other != identifier][-options.gallery :]
    return [chosen, *(store.read(other) for other in others)]


def _draw(agent: Agent, gallery: list[Seen], horizon: int, out: Path) -> None:
    import numpy as np

    from agent.evaluation.inspection import analysis, pictures

    seen = gallery[0]
    # closer together at the start, where most happens in most tasks
    last = seen.episode.steps - horizon
    starts = np.unique(np.geomspace(min(2, last), last, STARTS).astype(int)).tolist()
    matches = [
        [
            analysis.find(query, gallery, (0, start + k))
            for k, query in enumerate(analysis.imagine(agent, seen, start, horizon), start=1)
        ]
        for start in starts
    ]
    searched = sum(len(each.key) for each in gallery)
    pictures.draw_imagination(seen, starts, matches, searched, out / "imagination.png")
    plans = [analysis.candidate_plans(agent, seen.state[start], CANDIDATES) for start in starts]
    pictures.draw_candidates(seen, starts, plans, out / "plans.png")
    after = 0.0 if seen.episode.terminated[-1] else float(seen.value[-1])
    realised = analysis.realised_returns(seen.episode.reward, agent.discount, after)
    pictures.draw_traces(seen, realised, out / "values.png")
    pictures.draw_similarity(seen, out / "similarity.png")


def _draw_novelty(agent: Agent, episodes: list[Episode], out: Path) -> None:
    """What a curious agent finds novel; nothing for another one."""
    from agent.curious import CuriousAgent
    from agent.evaluation.inspection.novelty import novelty
    from agent.evaluation.inspection.novelty_pictures import draw_bonus, draw_novelty

    if not isinstance(agent, CuriousAgent):
        return
    bonuses = [novelty(agent, episode) for episode in episodes]
    name = f"{agent.config.curiosity.bonus} bonus"
    draw_bonus(episodes[0], {name: bonuses[0]}, out / "bonus.png")
    if episodes[0].frame.size:
        draw_novelty(episodes, bonuses, out / "novelty.png")


def _write_embedding(gallery: list[Seen], logs: Path) -> None:
    """Keys of observations spread over the gallery, with thumbnails if any, for TensorBoard's projector."""
    import numpy as np
    import torch
    from torch.utils.tensorboard import SummaryWriter

    places = [(seen, t) for seen in gallery for t in range(seen.episode.steps)]
    step = -(-len(places) // MOST_THUMBNAILS)
    places = places[::step]
    frames = torch.from_numpy(np.stack([seen.episode.frame[t] for seen, t in places]))
    facts = [
        [seen.episode.info.episode, t, f"{seen.episode.reward[t]:.2f}", f"{seen.value[t]:.1f}"]
        for seen, t in places
    ]
    with SummaryWriter(str(logs)) as writer:
        writer.add_embedding(
            torch.stack([seen.key[t] for seen, t in places]).cpu(),
            metadata=facts,
            metadata_header=["episode", "decision", "reward", "value"],
            label_img=frames.float() / 255 if frames.numel() else None,
            tag="keys",
        )


def _write_images(pictures: Path, logs: Path) -> None:
    """All that was drawn, for TensorBoard."""
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(logs)) as writer:
        for path in sorted(pictures.glob("*.png")):
            with Image.open(path) as image:
                writer.add_image(f"inspect/{path.stem}", np.asarray(image.convert("RGB")), dataformats="HWC")
