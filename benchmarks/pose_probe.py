"""What an encoder learns of `reacher-easy` from recorded episodes alone, while it learns it.

    python benchmarks/pose_probe.py RUN [--updates 1000] [--episodes 35] [--size 64] [flags of nearfar train]

Trains a fresh agent on the first episodes of a run, without acting, and asks now and then how well target and
finger tip (metres, in the plane) can be read off the latents of fresh episodes: the share of their variance
that ridge regression from the latents explains on 15 episodes it was not fitted on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from agent.agent import Agent
from agent.replay import Replay
from configs.schema import Config
from envs.episodes import EpisodeStore
from envs.rendering import select_backend
from envs.spec import EnvSpec
from scripts.options import parse_config
from world_model.encoder import perceived

TASK = "dmc/reacher-easy"
FITTED, HELD_OUT, DECISIONS = 45, 15, 30


def fresh_episodes(size: int, look: str) -> tuple[EnvSpec, dict[str, np.ndarray]]:
    """Observations, target and tip positions, and episode of each, under actions held for five decisions."""
    from envs import make_env

    env = make_env(TASK, seed=5, size=size, look=look)
    physics = env.unwrapped._physics  # type: ignore[attr-defined]  # the target is in no state vector
    rng = np.random.default_rng(0)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]] = []
    for episode in range(FITTED + HELD_OUT):
        env.reset(seed=1000 + episode)
        for decision in range(DECISIONS):
            if decision % 5 == 0:
                action = rng.uniform(-1, 1, 2).astype(np.float32)
            pixels, *_, info = env.step(action)
            if decision % 2 == 0:
                position = physics.named.data.geom_xpos
                target, tip = position["target", :2].copy(), position["finger", :2].copy()
                rows.append((pixels, info["proprio"], target, tip, episode))
    names = ("pixels", "proprio", "target", "tip", "episode")
    return env.unwrapped.env_spec, dict(  # type: ignore[attr-defined]
        zip(names, map(np.array, zip(*rows, strict=True)), strict=True)
    )


def explained(z: np.ndarray, position: np.ndarray, episode: np.ndarray) -> float:
    """Best R² over ridge penalties on the episodes held out, (N, Z), (N, 2), (N,)."""
    fitted = episode < FITTED
    z = (z - z[fitted].mean(0)) / (z[fitted].std(0) + 1e-6)
    mean = position[fitted].mean(0)
    scores = []
    for penalty in (1.0, 10.0, 100.0, 1e3, 1e4):
        gram = z[fitted].T @ z[fitted] + penalty * np.eye(z.shape[1])
        found = z[~fitted] @ np.linalg.solve(gram, z[fitted].T @ (position[fitted] - mean)) + mean
        wrong = np.square(found - position[~fitted]).mean()
        scores.append(1 - wrong / position[~fitted].var(0).mean())
    return float(max(scores))


def replay_of(path: Path, count: int, env_spec: EnvSpec, horizon: int, pair_share: float, gap: int) -> Replay:
    """The first episodes of a store, one after another."""
    store = EpisodeStore(path)
    spans: list[list[int]] = []
    head = 0
    for episode in range(count):
        steps = store.read(episode).steps
        spans.append([episode, head, head + steps])
        head += steps + 1
    replay = Replay(
        env_spec, capacity=head + 1, lanes=1, horizon=horizon, pair_share=pair_share, min_gap=gap,
        device=torch.device("cpu"),
    )  # fmt: skip
    lanes = [{"head": head, "spans": spans}]
    replay.restore(store, {"length": head + 1, "next_episode": count, "lanes": lanes})
    return replay


def main() -> None:
    """Train and probe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=35)
    parser.add_argument("--every", type=int, default=500)
    options, flags = parser.parse_known_args()
    stored = len(EpisodeStore(options.run / "episodes"))
    if stored < options.episodes:
        parser.error(f"{options.run} holds {stored} episodes: give a run of {TASK}, or fewer --episodes")
    config = parse_config(Config, "train", ["--task", TASK, "--preset", "cpu", "--device", "cpu", *flags])
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    select_backend()
    env_spec, probe = fresh_episodes(config.size, config.look)
    model = config.world_model
    replay = replay_of(
        options.run / "episodes", options.episodes, env_spec,
        model.horizon, config.replay.pair_share, model.near_window + model.horizon,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    agent = Agent(env_spec, config, torch.device("cpu"))
    generator, rng = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)
    pixels, proprio = torch.from_numpy(probe["pixels"]), perceived(torch.from_numpy(probe["proprio"]))
    start = time.perf_counter()
    for update in range(1, options.updates + 1):
        agent.update(replay.sample(config.training.batch_size, rng), generator, imagine=False)
        if update % options.every == 0:
            with torch.no_grad():
                z = agent.model.key_encoder(pixels, proprio).numpy()
            scores = {name: explained(z, probe[name], probe["episode"]) for name in ("target", "tip")}
            offset = explained(z, probe["target"] - probe["tip"], probe["episode"])
            ms = 1e3 * (time.perf_counter() - start) / update
            print(
                f"{update:>6} updates  {ms:4.0f} ms each  R2 target {scores['target']:.2f}  "
                f"tip {scores['tip']:.2f}  target from tip {offset:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
