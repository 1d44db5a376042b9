from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agent.agent import Agent
from agent.behaviour import Behaviour, Behaviours, Policy, SmoothRandom, UniformRandom
from agent.controller import Controller
from agent.seeding import Streams
from configs.behaviours import BEHAVIOURS, parse_behaviours
from configs.schema import Config
from envs.spec import EnvSpec, Observation

NOTHING = Observation(np.zeros((9, 32, 32), np.uint8), np.zeros(5, np.float32))
ENTRIES = 20_000


def actions(behaviour: Behaviour, count: int) -> np.ndarray:
    return np.array([behaviour.act(NOTHING) for _ in range(count)])


def mixture(
    text: str, env_spec: EnvSpec, *, seed: int = 0, frames: float = 50, policy: Policy | None = None
) -> Behaviours:
    shares: Mapping[str, float] = parse_behaviours(text)
    return Behaviours(shares, Streams(seed), env_spec, correlation_frames=frames, policy=policy)


@pytest.mark.parametrize(
    "behaviour",
    [
        UniformRandom(np.random.default_rng(0), ENTRIES),
        SmoothRandom(np.random.default_rng(0), ENTRIES, 4.0),
    ],
)
def test_single_actions_are_uniform_from_the_first_to_the_last(behaviour: Behaviour) -> None:
    for row in actions(behaviour, 6)[[0, 5]]:
        assert row.dtype == np.float32 and np.abs(row).max() <= 1
        assert stats.kstest(row, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("tau", [0.5, 3.0, 20.0])
def test_smooth_actions_are_as_alike_as_the_process_says(tau: float) -> None:
    """Over many entries, by the correlation of uniform variables with a Gaussian copula."""
    found = actions(SmoothRandom(np.random.default_rng(1), ENTRIES, tau), 9)
    for first, apart in ((0, 1), (0, 8), (3, 4), (7, 1)):
        expected = 6 / math.pi * math.asin(math.exp(-apart / tau) / 2)
        correlation = np.corrcoef(found[first], found[first + apart])[0, 1]
        assert correlation == pytest.approx(expected, abs=4 / math.sqrt(ENTRIES))


def test_entries_of_smooth_actions_are_independent() -> None:
    found = actions(SmoothRandom(np.random.default_rng(2), 2, 2.0), 20_000)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.05
    assert np.corrcoef(found[1:, 0], found[:-1, 0])[0, 1] > 0.5


def test_uniform_actions_are_independent_over_time() -> None:
    found = actions(UniformRandom(np.random.default_rng(1), ENTRIES), 2)
    assert abs(np.corrcoef(found)[0, 1]) < 4 / math.sqrt(ENTRIES)


@pytest.mark.parametrize("repeat", [1, 4])
def test_correlation_time_is_in_frames(env_spec: EnvSpec, repeat: int) -> None:
    spec = replace(env_spec, action_repeat=repeat, action_dim=ENTRIES)
    found = actions(mixture("smooth-random", spec, frames=8).start(0), 2)
    expected = 6 / math.pi * math.asin(math.exp(-repeat / 8) / 2)
    assert np.corrcoef(found)[0, 1] == pytest.approx(expected, abs=4 / math.sqrt(ENTRIES))


@given(
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.sampled_from(BEHAVIOURS), st.integers(1, 20), min_size=1),
    st.integers(1, 400),
)
def test_each_behaviour_has_its_share_after_any_number_of_episodes(
    seed: int, weights: dict[str, int], episodes: int
) -> None:
    spec = EnvSpec("paper", (3, 0, 0), 3, 2, 1, 50, True, 2, "fast")
    behaviours = mixture(",".join(f"{name}={w}" for name, w in weights.items()), spec, seed=seed)
    found = Counter(map(behaviours.name, range(episodes)))
    for name, weight in weights.items():
        assert abs(found[name] - episodes * weight / sum(weights.values())) <= 3
    assert found.keys() <= weights.keys()


def test_an_episode_depends_on_its_number_and_the_seed_alone(env_spec: EnvSpec) -> None:
    text = "random=1,smooth-random=1"
    ordered, backwards, other = (mixture(text, env_spec, seed=seed) for seed in (3, 3, 4))
    first = {k: (ordered.name(k), actions(ordered.start(k), 4).tolist()) for k in range(9)}
    again = {k: (backwards.name(k), actions(backwards.start(k), 4).tolist()) for k in reversed(range(9))}
    assert first == again
    assert len({str(drawn) for _, drawn in first.values()}) == 9, "each draws for itself"
    assert first != {k: (other.name(k), actions(other.start(k), 4).tolist()) for k in range(9)}


@pytest.fixture
def agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Agent:
    torch.manual_seed(0)
    return Agent(env_spec, tiny_config(planner={"control": "mppi"}), torch.device("cpu"))


def seen(count: int, env_spec: EnvSpec) -> list[Observation]:
    rng = np.random.default_rng(0)
    return [
        Observation(rng.integers(0, 256, env_spec.obs_shape, np.uint8), np.zeros(5, np.float32))
        for _ in range(count)
    ]


def test_policy_acts_as_a_controller_of_its_own(agent: Agent, env_spec: EnvSpec) -> None:
    behaviour = mixture("policy", env_spec, policy=Policy(agent, control="policy")).start(0)
    controller = Controller(agent, 1, torch.Generator(), control="policy")
    for obs in seen(4, env_spec):
        np.testing.assert_array_equal(behaviour.act(obs), controller.act({0: obs})[0])


def test_noise_on_the_policy(agent: Agent, env_spec: EnvSpec) -> None:
    """In the first decisions of episodes: later ones part, since an agent sees what it did last."""
    (obs,) = seen(1, env_spec)
    still, noisy = (
        mixture("policy", env_spec, policy=Policy(agent, noise, "policy")) for noise in (0.0, 0.1)
    )
    gaps = [noisy.start(k).act(obs) - still.start(k).act(obs) for k in range(100)]
    assert np.std(gaps) == pytest.approx(0.1, rel=0.25)
    assert np.mean(gaps) == pytest.approx(0, abs=0.03)


def test_planning_is_repeated_by_the_number_of_the_episode(agent: Agent, env_spec: EnvSpec) -> None:
    behaviours = mixture("policy", env_spec, policy=Policy(agent, 0.3))
    drawn = [[behaviours.start(k).act(obs).tolist() for obs in seen(2, env_spec)] for k in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_policy_without_an_agent_is_a_defect(env_spec: EnvSpec) -> None:
    with pytest.raises(ValueError, match="episode 0 is policy's, but there is no agent"):
        mixture("policy", env_spec).start(0)
