from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.actor_critic import ActorCritic, discount_of, lambda_returns
from agent.agent import Agent
from agent.replay import Replay
from configs.control import ActorCriticOptions
from configs.schema import Config
from envs.counting import CountingEnv
from envs.spec import EnvSpec, Observation, Transition
from world_model.batch import Batch

ROWS, H = 5, 4


def n_step(reward: np.ndarray, discount: np.ndarray, value: np.ndarray, k: int, n: int) -> float:
    """Rewards of n steps from k on, then the value of the state reached."""
    total, weight = 0.0, 1.0
    for i in range(k, k + n):
        total, weight = total + weight * reward[i], weight * discount[i]
    return total + weight * value[k + n - 1]


def lambda_return(reward: np.ndarray, discount: np.ndarray, value: np.ndarray, k: int, trace: float) -> float:
    """Mixture of n-step returns (Sutton and Barto 2018, eq. 12.3)."""
    longest = H - k
    mixed = sum(
        (1 - trace) * trace ** (n - 1) * n_step(reward, discount, value, k, n) for n in range(1, longest)
    )
    return mixed + trace ** (longest - 1) * n_step(reward, discount, value, k, longest)


@pytest.fixture
def make_actor_critic(tiny_config: Callable[..., Config]) -> Callable[..., ActorCritic]:
    def make(**options: float) -> ActorCritic:
        config = tiny_config(actor_critic=options)
        torch.manual_seed(0)
        actor_critic = ActorCritic(2, config.actor_critic, config.world_model)
        with torch.no_grad():
            for parameter in actor_critic.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return actor_critic

    return make


def states(*shape: int) -> Tensor:
    return torch.rand(*shape, 18, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("trace", [0.0, 0.4, 0.95, 1.0])
def test_lambda_returns_equal_loops(trace: float) -> None:
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, ROWS, H))
    discount = 0.9 * (rng.random((ROWS, H)) < 0.7)
    expected = [
        [lambda_return(reward[b], discount[b], value[b], k, trace) for k in range(H)] for b in range(ROWS)
    ]
    found = lambda_returns(torch.tensor(reward), torch.tensor(discount), torch.tensor(value), trace)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("steps", "discount"), [(10, 0.95), (100, 0.95), (125, 0.96), (500, 0.99), (5000, 0.995)]
)
def test_discount_from_the_length_of_an_episode(env_spec: EnvSpec, steps: int, discount: float) -> None:
    task = replace(env_spec, episode_frames=2 * steps, action_repeat=2)
    assert discount_of(ActorCriticOptions(), task) == pytest.approx(discount)
    assert discount_of(ActorCriticOptions(discount=0.5), task) == 0.5


def test_terminal_state_has_no_value_and_the_last_before_a_time_limit_has(
    env_spec: EnvSpec,
    tiny_config: Callable[..., Config],
    make_batch: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(actor_critic={"trace": 1.0, "discount": 0.9}), torch.device("cpu"))
    batch = make_batch(env_spec, horizon=3)
    terminated = batch.terminated.clone()
    terminated[:4, 2] = True
    value = torch.full((8, 3), 50.0)
    monkeypatch.setattr(agent.actor_critic, "target_value", lambda state, generator: value)
    generator = torch.Generator().manual_seed(0)
    found = agent.value_target(
        replace(batch, terminated=terminated), agent.model.encode(batch, generator), generator
    )
    expected = batch.reward @ torch.tensor([1.0, 0.9, 0.81]) + 0.9**3 * torch.tensor(4 * [0.0] + 4 * [50.0])
    torch.testing.assert_close(found[:, 0], expected)


@pytest.mark.parametrize("terminate", [True, False])
def test_only_termination_cuts_the_value_off_on_the_way_from_the_environment(
    tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, terminate: bool
) -> None:
    """An episode of five decisions with the rewards 0 to 4, through replay, to the targets of its windows."""
    env = CountingEnv(length=5, terminate=terminate, size=32)
    replay = Replay(
        env.env_spec, capacity=50, lanes=1, horizon=3, pair_share=0.0, min_gap=5, device=torch.device("cpu")
    )
    pixels, info = env.reset(seed=0)
    replay.start(0, Observation(pixels, info["proprio"]))
    for _ in range(5):
        action = np.zeros(2, np.float32)
        pixels, reward, terminated, truncated, info = env.step(action)
        seen = pixels[-3:], info["proprio"]
        replay.add(0, Transition(*seen, action, reward, terminated, truncated, info["physics"], 1))
    torch.manual_seed(0)
    agent = Agent(
        env.env_spec, tiny_config(actor_critic={"trace": 1.0, "discount": 0.9}), torch.device("cpu")
    )
    monkeypatch.setattr(agent.actor_critic, "target_value", lambda *_: torch.full((32, 3), 50.0))
    batch, generator = replay.sample(32, np.random.default_rng(0)), torch.Generator().manual_seed(0)
    target = agent.value_target(batch, agent.model.encode(batch, generator), generator)
    assert set(batch.time.tolist()) == set(range(5 if terminate else 3))
    for t, found in zip(batch.time.tolist(), target, strict=True):
        value = 0.0 if terminate and t >= 2 else 50.0
        for k in reversed(range(min(3, 5 - t))):
            value = t + k + 0.9 * value
            assert found[k].item() == pytest.approx(value)


@pytest.mark.parametrize("trace", [0.0, 0.9])
def test_imagined_returns_equal_loops(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], trace: float
) -> None:
    """For the first actions drawn: averaged rewards and chances to go on, the lower critic."""
    torch.manual_seed(0)
    options = {"imagination_horizon": H, "imagination_trace": trace, "discount": 0.9}
    agent = Agent(env_spec, tiny_config(actor_critic=options), torch.device("cpu"))
    actor_critic = agent.actor_critic
    for parameter in (*agent.model.parameters(), *actor_critic.parameters()):
        # far from the start, where heads are zero and averages equal; in place, without gradient
        parameter.data.add_(0.3 * torch.randn_like(parameter))
        parameter.requires_grad_(False)
    state = states(ROWS)
    actions, found = agent.imagined_returns(state, torch.Generator().manual_seed(0))
    for start, first, estimate in zip(state, actions, found.tolist(), strict=True):
        at, action, reward, discount, value = start[None], first[None], [], [], []
        for _ in range(H):
            at, earned, going_on = agent.model.imagine(at, action)
            action = actor_critic.policy(at).tanh()
            q = actor_critic.two_hot.decode(actor_critic.target_critics(torch.cat((at, action), dim=-1)))
            reward.append(float(earned))
            discount.append(0.9 * float(going_on))
            value.append(float(q.min()))
        expected = lambda_return(np.array(reward), np.array(discount), np.array(value), 0, trace)
        assert estimate == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_imagined_actions_lie_around_the_policy(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], std: float
) -> None:
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(actor_critic={"imagination_std": std}), torch.device("cpu"))
    state = states(4000)
    action, returns = agent.imagined_returns(state, torch.Generator().manual_seed(0))
    assert not (action.requires_grad or returns.requires_grad), "targets teach the critics alone"
    away = action - agent.actor_critic.policy(state).tanh().detach()
    assert action.abs().max() <= 1
    assert float(away.mean()) == pytest.approx(0, abs=0.02)
    assert float(away.square().mean().sqrt()) == pytest.approx(std, rel=0.05)


def test_target_value_is_the_least_of_two_target_critics(
    make_actor_critic: Callable[..., ActorCritic],
) -> None:
    actor_critic, state = make_actor_critic(critics=4, target_noise=0.0), states(6, 3)
    x = torch.cat((state, actor_critic.policy(state).tanh()), dim=-1)
    q = actor_critic.two_hot.decode(actor_critic.target_critics(x))
    pairs = {(i, j): torch.minimum(q[i], q[j]) for i in range(4) for j in range(i)}
    generator, drawn = torch.Generator().manual_seed(0), set()
    for _ in range(60):
        found = actor_critic.target_value(state, generator)
        drawn |= {pair for pair, least in pairs.items() if torch.allclose(found, least)}
    assert drawn == pairs.keys()


def test_target_policy_is_smoothed_by_clipped_noise(
    make_actor_critic: Callable[..., ActorCritic],
) -> None:
    actor_critic, state = make_actor_critic(target_noise=0.1), states(4000)
    seen: list[Tensor] = []
    actor_critic.target_critics.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    actor_critic.target_value(state, torch.Generator().manual_seed(0))
    noise = (seen[0][:, 18:] - actor_critic.policy(state).tanh()).detach()
    assert seen[0][:, 18:].abs().max() <= 1
    assert noise.abs().max() == pytest.approx(0.15, abs=1e-5)
    assert noise.std() == pytest.approx(0.09, abs=0.02)


def test_value_is_that_of_the_averaged_networks(make_actor_critic: Callable[..., ActorCritic]) -> None:
    actor_critic, state = make_actor_critic(), states(2, 3)
    action = actor_critic.averaged_policy(state).tanh()
    torch.testing.assert_close(actor_critic.act(state), action)
    q = actor_critic.two_hot.decode(actor_critic.target_critics(torch.cat((state, action), -1)))
    torch.testing.assert_close(actor_critic.value(state), (q[0] + q[1]) / 2)


def test_q_values_are_those_of_each_critic(make_actor_critic: Callable[..., ActorCritic]) -> None:
    actor_critic, state = make_actor_critic(), states(2, 3)
    action = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0))
    q = actor_critic.q_values(state, action)
    assert q.shape == (2, 2, 3)
    torch.testing.assert_close(
        q, actor_critic.two_hot.decode(actor_critic.critics(torch.cat((state, action), -1)))
    )


def test_policy_loss_falls_with_value_whatever_its_scale(
    make_actor_critic: Callable[..., ActorCritic],
) -> None:
    """Once the running range has settled, rewards ten times as large give the policy the same gradient."""
    gradients = []
    for factor in (10.0, 100.0):
        actor_critic, state = make_actor_critic(action_penalty=0.0), states(64)
        actor_critic.q_values = lambda state, action, k=factor: k * action.sum(-1).expand(2, -1)  # type: ignore[method-assign, misc]
        for _ in range(1500):
            actor_critic._update_scale(actor_critic.q_values(state, actor_critic.act(state)).mean(0).detach())
        loss = actor_critic.policy_loss(state, torch.ones(64, dtype=torch.bool)).mean()
        gradients.append(torch.autograd.grad(loss, list(actor_critic.policy.parameters())))
    for small, large in zip(*gradients, strict=True):
        torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-6)
    assert actor_critic.scale > 1
    assert gradients[0][-1].max() < 0, "descending raises every action, and so the value"


def test_policy_and_its_scale_learn_from_what_counts_alone(
    make_actor_critic: Callable[..., ActorCritic],
) -> None:
    alive = torch.arange(64) < 40
    whole, part = make_actor_critic(), make_actor_critic()
    losses = whole.policy_loss(states(64), alive)
    torch.testing.assert_close(losses[:40], part.policy_loss(states(64)[:40], alive[:40]))
    assert (losses[40:] == 0).all()
    torch.testing.assert_close(whole.scale, part.scale)
    assert whole.scale != 1


@pytest.mark.parametrize("is_filtered", [True, False])
def test_imitation_counts_what_the_critics_prefer(
    make_actor_critic: Callable[..., ActorCritic], is_filtered: bool
) -> None:
    actor_critic, state = make_actor_critic(planner_filter=is_filtered), states(64)
    action = 2 * torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) - 1
    expected, preferred = np.zeros(64), 0
    for row in range(64):
        at, taken = state[row : row + 1], action[row : row + 1]
        own = actor_critic.policy(at).tanh()
        recorded_q, own_q = (actor_critic.q_values(at, each).mean() for each in (taken, own))
        preferred += int(recorded_q > own_q)
        if recorded_q > own_q or not is_filtered:
            expected[row] = ((own - taken) ** 2).mean().item()
    assert 0 < preferred < 64
    found = actor_critic.imitation_loss(state, action)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-7)
