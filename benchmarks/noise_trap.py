"""The noise trap: are states novel because random pixels show in them?

    python benchmarks/noise_trap.py [--episodes 40] [--updates 1500] [--seed 1] [--threads 0]

Random episodes of cartpole are recorded, in which the cart is as often on the left as on the right. Then a
screen is painted into the frames, which shows noise, new at every frame, wherever the cart is on the right.
An agent learns from them without acting, and all bonuses look at what it learns. Each is asked how often a
state with noise is more novel to it than one without: 0.5 is chance, and 1 a trap. The same without noise is
the control.
Results go to `benchmarks/results/noise_trap.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from agent.curious import CuriousAgent
from agent.explorer import make_bonus
from configs.curiosity import BonusName, CuriosityOptions
from configs.pretrain import BatchOptions, PretrainConfig
from configs.schema import Config
from envs.episodes import EpisodeStore
from envs.windows import EpisodeReader
from scripts import cli
from scripts.machine import hardware, versions
from world_model.curiosity import Arrivals, Bonus
from world_model.memory import EMPTY
from world_model.pretrain.samples import Windows
from world_model.pretrain.source import Source, env_spec_of

RESULT = Path(__file__).parent / "results" / "noise_trap.json"
SCREEN = np.s_[:, :, 4:24, 4:60]  # above the rail, where a pole that hangs is not seen
JUDGED = 20  # batches whose states are compared at the end
BONUSES = [name for name in get_args(BonusName) if name != "none"]


def record(path: Path, episodes: int, seed: int) -> None:
    """Random episodes; the behaviour is correlated in time, so that the cart goes somewhere."""
    flags = ["--task", "dmc/cartpole-swingup", "--behaviour", "smooth-random", "--no-progress"]
    code = cli.main(["collect", *flags, "--episodes", str(episodes), "--seed", str(seed), "--out", str(path)])
    if code:
        raise SystemExit(code)


def paint(source: EpisodeStore, target: EpisodeStore, *, has_noise: bool, seed: int) -> None:
    """Copy episodes, with a screen: grey, or noise where the cart is on the right."""
    rng = np.random.default_rng(seed)
    for identifier in source.ids():
        episode = source.read(identifier)
        frame = episode.frame.copy()
        frame[SCREEN] = 128
        for t in np.flatnonzero(episode.physics[:, 0] > 0) if has_noise else ():
            frame[t][SCREEN[1:]] = rng.integers(0, 256, frame[t][SCREEN[1:]].shape, dtype=np.uint8)
        target.commit(replace(episode, frame=frame))


def measure(path: Path, updates: int, config: Config) -> dict[str, float]:
    """Share of pairs, one state on the right and one on the left, in which the right one is more novel.

    Args:
        path: painted episodes.
        updates: gradient steps of the agent on them.
        config: of the agent, whose bonus collects nothing here; its seed is that of everything.
    """
    store, seed = EpisodeStore(path), config.seed
    reader = EpisodeReader(store)
    size = BatchOptions(size=config.training.batch_size)
    data = PretrainConfig(data=(str(path),), method="temporal", seed=seed, batch=size)
    spec = env_spec_of(store.shared, data, int(reader.lengths.max()))
    torch.manual_seed(seed)
    agent = CuriousAgent(spec, config, torch.device("cpu"))
    others = {
        name: make_bonus(with_name(config.curiosity, name), config.world_model, agent.model, spec.action_dim)
        for name in BONUSES
    }
    optimizer = torch.optim.Adam(others["disagreement"].parameters(), lr=config.training.learning_rate)
    generator, source = torch.Generator().manual_seed(seed), Source(reader, data)
    for update in range(updates):
        samples = source.draw(update)
        assert isinstance(samples, Windows)
        batch = samples.batch
        agent.update(batch, generator, imagine=False)
        with torch.no_grad():
            latents = agent.model.encode(batch, generator)
        arrivals = Arrivals.of(batch, latents, agent.model.objective)
        for bonus in others.values():
            bonus.remember(arrivals.key[:: batch.horizon], arrivals.episode[:: batch.horizon], batch.time + 1)
        loss = others["disagreement"].loss(arrivals)
        assert loss is not None
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    return judge(agent, others, source, reader, first=updates)


def with_name(options: CuriosityOptions, name: str) -> CuriosityOptions:
    """The options with another bonus."""
    return options.model_copy(update={"bonus": name})


@torch.no_grad()
def judge(
    agent: CuriousAgent, bonuses: dict[str, Bonus], source: Source, reader: EpisodeReader, first: int
) -> dict[str, float]:
    """As `measure`, on batches from a number on; neither side near the middle, where both show in a stack."""
    generator = torch.Generator().manual_seed(0)
    values: dict[str, list[np.ndarray]] = {name: [] for name in bonuses}
    position = []
    for number in range(first, first + JUDGED):
        samples = source.draw(number)
        assert isinstance(samples, Windows)
        latents = agent.model.encode(samples.batch, generator)
        arrivals = Arrivals.of(samples.batch, latents, agent.model.objective)
        assert bool((arrivals.episode != EMPTY).all())
        physics = reader.rows("physics", arrivals.episode.numpy(), arrivals.time.numpy(), 1)
        position.append(physics[:, 0, 0])
        for name, bonus in bonuses.items():
            values[name].append(bonus(arrivals).numpy())
    x = np.concatenate(position)
    found = {}
    for name, parts in values.items():
        value = np.concatenate(parts)
        right, left = value[x > 0.2], value[x < -0.2]
        found[name] = float((right[:, None] > left).mean() + 0.5 * (right[:, None] == left).mean())
    return found | {"states_right": float((x > 0.2).sum()), "states_left": float((x < -0.2).sum())}


def main() -> None:
    """Measure with noise and without."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = Config(mode="explore", curiosity=CuriosityOptions(bonus="contrastive"), seed=options.seed)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {"runs": []}
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder, "plain"), options.episodes, options.seed)
        for name in ("noise", "control"):
            painted = Path(folder, name)
            source = EpisodeStore(Path(folder, "plain"))
            paint(source, EpisodeStore(painted), has_noise=name == "noise", seed=options.seed)
            found = measure(painted, options.updates, config)
            facts = {key: value for key, value in vars(options).items() if key != "threads"}
            kept["runs"].append({"screen": name, **facts, **found})
            print(kept["runs"][-1], flush=True)
            kept["runs"][-1] |= {"versions": versions(), "hardware": hardware()}
            RESULT.write_text(f"{json.dumps(kept, indent=1)}\n")


if __name__ == "__main__":
    main()
