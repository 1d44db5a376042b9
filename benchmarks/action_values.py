"""What actions are truly worth, in a task of one actuator, against what critics and planner make of them.

    python benchmarks/action_values.py RUN [--frames 100000] [--episodes 5] [--decisions 60] [--out FILE.csv]

At every decision of evaluation episodes the simulator is set back for each of 21 first actions, and for those
of policy and planner; the policy then acts for 30 decisions, and the critics close the return. Columns
`policy`, `planner` and `critics` are what the action of each loses against the best of the 21, `order` is the
correlation of the critics' values with the true ones over the 21, and `q_best` the greatest of the former.
`model_K` and `simulator_K` are such correlations for the rewards of K decisions and the value after them, as
the model predicts them and as they come out: where the former lags behind, the dynamics are at fault.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent.agent import Agent
from agent.checkpoint import CheckpointError, numbered
from agent.controller import Controller
from agent.loading import load_agent
from agent.seeding import Streams
from envs.rendering import select_backend
from envs.spec import Observation

ACTIONS = np.linspace(-1, 1, 21, dtype=np.float32)
ROLLOUT = 30
AHEAD = 5
COLUMNS = (
    *("episode", "decision", "reward", "best", "policy", "planner", "critics", "order", "q_best"),
    *(f"{kind}_{k}" for kind in ("model", "simulator") for k in range(1, AHEAD + 1)),
)


@dataclass
class Moment:
    """What a simulation goes on from: physics state, observation, last action (1,)."""

    physics: np.ndarray
    obs: Observation
    last_action: np.ndarray


def go_on(env: Any, moment: Moment, action: np.ndarray) -> tuple[Moment, float]:
    """Set the simulator to a moment and take one decision, at no time limit."""
    dmc = env.unwrapped
    with dmc._physics.reset_context():
        dmc._physics.set_state(moment.physics)
    dmc._episode_frame, dmc._stacked = 0, moment.obs.pixels.copy()
    dmc._env._reset_next_step, dmc._env._step_count = False, 0
    pixels, reward, *_, info = env.step(action)
    return Moment(info["physics"], Observation(pixels, info["proprio"]), action), float(reward)


def encode(agent: Agent, moments: list[Moment]) -> Tensor:
    """States (N, Z + A)."""
    columns = zip(*((*moment.obs, moment.last_action) for moment in moments), strict=True)
    return agent.encode(*(torch.from_numpy(np.stack(column)) for column in columns))


@dataclass
class Course:
    """What came of N first actions: rewards (T, N), actions (T, N, 1), states after each (T, N, Z + A)."""

    reward: np.ndarray
    action: np.ndarray
    state: Tensor


@torch.no_grad()
def course_of(agent: Agent, env: Any, moment: Moment, first: np.ndarray) -> Course:
    """Simulate first actions (N, 1) and the policy after them."""
    moments, action = [moment] * len(first), first
    rewards, actions, states = [], [], []
    for _ in range(ROLLOUT):
        steps = [go_on(env, at, each) for at, each in zip(moments, action, strict=True)]
        moments = [after for after, _ in steps]
        rewards.append(np.array([reward for _, reward in steps]))
        actions.append(action)
        states.append(encode(agent, moments))
        action = agent.act(states[-1]).numpy()
    return Course(np.array(rewards), np.array(actions), torch.stack(states))


@torch.no_grad()
def lookahead(agent: Agent, reward: np.ndarray, state: Tensor) -> np.ndarray:
    """Discounted rewards (K, N) and the value of the states after them (K, N, Z + A), as returns (N,)."""
    weights = agent.discount ** np.arange(len(reward))
    return weights @ reward + agent.discount ** len(reward) * agent.value(state[-1]).numpy()


@torch.no_grad()
def imagined(agent: Agent, state: Tensor, action: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Rewards (K, N) and states (K, N, Z + A) that the model predicts of a state (1, Z + A), for actions."""
    at, rewards, states = state.expand(action.shape[1], -1), [], []
    for each in torch.from_numpy(action):
        at, reward, _ = agent.step(at, each)
        rewards.append(reward.numpy())
        states.append(at)
    return np.array(rewards), torch.stack(states)


@torch.no_grad()
def row_of(agent: Agent, env: Any, moment: Moment, planned: np.ndarray) -> tuple[float, ...]:
    """The columns from `best` on."""
    state, count = encode(agent, [moment]), len(ACTIONS)
    grid, critics = torch.from_numpy(ACTIONS)[:, None], agent.actor_critic
    inputs = torch.cat((state.expand(count, -1), grid), dim=-1)
    q = critics.two_hot.decode(critics.target_critics(inputs)).mean(dim=0).numpy()
    course = course_of(agent, env, moment, np.stack([*ACTIONS[:, None], agent.act(state)[0], planned]))
    returns = lookahead(agent, course.reward, course.state)
    over_grid, best = returns[:count], returns[:count].max()
    predicted = imagined(agent, state, course.action[:AHEAD])
    orders = [
        np.corrcoef(lookahead(agent, reward[:k], states[:k])[:count], over_grid)[0, 1]
        for reward, states in (predicted, (course.reward, course.state))
        for k in range(1, AHEAD + 1)
    ]
    losses = [best - found for found in (*returns[count:], over_grid[q.argmax()])]
    return best, *losses, np.corrcoef(q, over_grid)[0, 1], q.max(), *orders


def main() -> None:
    """Walk through episodes and write a CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, help="of the checkpoint; the newest otherwise")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=60, help="of each episode, from its start")
    parser.add_argument("--out", type=Path, default=Path("action_values.csv"))
    options = parser.parse_args()
    select_backend()
    from envs import make_env

    where = numbered(options.run / "checkpoints", options.frames) if options.frames else options.run
    try:
        agent = load_agent(where).agent
    except CheckpointError as error:
        parser.error(str(error))
    if agent.env_spec.action_dim != 1:
        parser.error(f"{agent.config.task} has {agent.env_spec.action_dim} actuators, not one")
    config = agent.config
    env, other = (
        make_env(
            config.task,
            seed=0,
            size=config.size,
            look=config.look,
            distract=config.distract,
            stack=config.stack,
            action_repeat=config.action_repeat,
        )
        for _ in range(2)
    )
    rows = []
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for episode in range(options.episodes):
            seed = Streams(0).episode_seed("eval", episode)
            pixels, info = env.reset(seed=seed)
            other.reset(seed=seed)
            controller = Controller(agent, 1, torch.Generator().manual_seed(seed))
            last_action = np.zeros(1, np.float32)
            for decision in range(min(options.decisions, agent.env_spec.episode_steps)):
                moment = Moment(info["physics"], Observation(pixels, info["proprio"]), last_action)
                last_action = controller.act({0: moment.obs})[0]
                numbers = row_of(agent, other, moment, last_action)
                pixels, reward, *_, info = env.step(last_action)
                rows.append((episode, decision, float(reward), *numbers))
                writer.writerow((*rows[-1][:2], *(f"{number:.2f}" for number in rows[-1][2:])))
                file.flush()
            part = np.mean([row[2:] for row in rows if row[0] == episode], axis=0)
            print(f"episode {episode}: " + "  ".join(map("{} {:.2f}".format, COLUMNS[2:], part)), flush=True)


if __name__ == "__main__":
    main()
