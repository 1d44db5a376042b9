from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.agent import Agent, Controller
from agent.planner import MPPI, PolicyOnly, rollout
from configs.schema import Config, PlannerOptions
from envs.spec import EnvSpec

H, A = 3, 2


@dataclass
class LinearQuadratic:
    """z' = zF + aG, reward -(zQz + aRa): the value is -zPz and the best action -zK, by Riccati recursion.

    Attributes:
        gain: share of the best action that the policy takes.
    """

    discount: float = 0.9
    gain: float = 0.0
    F: Tensor = field(
        default_factory=lambda: torch.tensor([[1.1, 0.2, 0.0], [0.0, 0.9, 0.3], [0.1, 0.0, 1.0]])
    )
    G: Tensor = field(default_factory=lambda: torch.tensor([[0.5, 0.0, 0.3], [0.0, 0.6, -0.2]]))
    Q: Tensor = field(default_factory=lambda: torch.diag(torch.tensor([1.0, 2.0, 0.5])))
    R: Tensor = field(default_factory=lambda: torch.diag(torch.tensor([0.2, 0.1])))

    def __post_init__(self) -> None:
        self.P = self.Q.clone()
        for _ in range(500):
            inner = self.R / self.discount + self.G @ self.P @ self.G.T
            self.K = (torch.linalg.inv(inner) @ self.G @ self.P @ self.F.T).T  # action = -z @ K
            after = self.F - self.K @ self.G
            self.P = self.Q + self.K @ self.R @ self.K.T + self.discount * after @ self.P @ after.T

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, float]:
        cost = ((z @ self.Q) * z).sum(-1) + ((action @ self.R) * action).sum(-1)
        return z @ self.F + action @ self.G, -cost, 1.0

    def value(self, z: Tensor) -> Tensor:
        return -((z @ self.P) * z).sum(-1)

    def act(self, z: Tensor) -> Tensor:
        return -self.gain * z @ self.K


def options(**changes: float) -> PlannerOptions:
    return PlannerOptions.model_validate({"horizon": H, "samples": 32, "iterations": 2} | changes)


def thorough() -> PlannerOptions:
    return options(samples=512, iterations=20, max_std=0.5, min_std=0.02)


def states(count: int, seed: int = 0) -> Tensor:
    """Small ones, so that the best actions lie well inside [-1, 1]."""
    return 0.25 * (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_mppi_finds_the_known_optimum(gain: float) -> None:
    model, z = LinearQuadratic(gain=gain), states(16)
    plan = MPPI(thorough()).plan(model, z, torch.zeros(16, H, A), noise_std=0.0, generator=seeded())
    best_action = -z @ model.K
    assert best_action.abs().max() < 1
    assert (plan.action - best_action).abs().max() < 0.03
    lost = model.value(z) - rollout(model, z, plan.mean)[1]  # the value is that of the best plan
    assert lost.min() > -1e-5
    assert (lost / -model.value(z)).max() < 0.02


def test_rollouts_are_discounted_and_end_with_the_episode() -> None:
    class Counter:
        discount = 0.5

        def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return z + 1, action.sum(-1), (z[..., 0] < 1).float()

        def value(self, z: Tensor) -> Tensor:
            return 100 * z[..., 0]

        def act(self, z: Tensor) -> Tensor:
            return 0.3 + 0.1 * z

    z, offsets = torch.tensor([[0.0], [-9.0]]), torch.tensor([0.2, 0.1, 9.0]).expand(2, 3)[..., None]
    first, returns = rollout(Counter(), z, offsets)
    torch.testing.assert_close(first, torch.tensor([[0.5], [-0.4]]))
    # from 0 the second step is the last that counts; from -9 all three, and the value of -6
    expected = torch.tensor([0.5 + 0.5 * 0.5, -0.4 - 0.5 * 0.4 + 0.25 * 1.0 + 0.125 * -600])
    torch.testing.assert_close(returns, expected)


def test_environments_are_planned_for_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once or one by one, given the same draws for each environment."""
    model, z, mean = LinearQuadratic(gain=0.5), states(3), 0.1 * torch.randn(3, H, A, generator=seeded())
    original = torch.randn

    def randn(*shape: int | tuple[int, ...], generator: list[torch.Generator], device: object) -> Tensor:
        rest = shape[0][1:] if isinstance(shape[0], tuple) else shape[1:]
        return torch.stack([original(rest, generator=one) for one in generator])  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "randn", randn)

    def plan(rows: list[int]) -> dict[str, Tensor]:
        generators = [seeded(row) for row in rows]
        found = MPPI(options()).plan(model, z[rows], mean[rows], noise_std=0.3, generator=generators)  # type: ignore[arg-type]
        return vars(found)

    together = plan([0, 1, 2])
    for row in range(3):
        for name, value in plan([row]).items():
            torch.testing.assert_close(value[0], together[name][row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gain", [0.0, 0.7, 1.0])
def test_a_plan_is_never_predicted_worse_than_the_policy(gain: float) -> None:
    """However poor the search: four candidates, one iteration."""
    model, z = LinearQuadratic(gain=gain), states(200)
    planner = MPPI(options(samples=4, iterations=1, temperature=10.0))
    plan = planner.plan(model, z, torch.zeros(200, H, A), noise_std=0.0, generator=seeded())
    policy_action, policy_return = rollout(model, z, torch.zeros(200, H, A))
    action, found = rollout(model, z, plan.mean)
    assert (found >= policy_return - 1e-5).all()
    torch.testing.assert_close(plan.action, action)
    torch.testing.assert_close(plan.policy_action, policy_action)
    assert ((plan.advantage > 0) == (plan.mean != 0).any(-1).any(-1)).all()
    if gain == 1:  # nothing beats it
        torch.testing.assert_close(plan.action, plan.policy_action)


def test_the_plan_before_is_a_candidate() -> None:
    """With a narrow search and a low temperature, what comes out is as good as what went in."""
    model, z = LinearQuadratic(), states(64)
    good = MPPI(thorough()).plan(model, z, torch.zeros(64, H, A), noise_std=0.0, generator=seeded()).mean
    narrow = MPPI(options(iterations=1, max_std=0.001, min_std=0.001, temperature=0.02))

    def returns(start: Tensor) -> Tensor:
        plan = narrow.plan(model, z, start, noise_std=0.0, generator=seeded(1))
        return rollout(model, z, plan.mean)[1]

    torch.testing.assert_close(returns(good), rollout(model, z, good)[1], rtol=0.05, atol=1e-3)
    assert (returns(torch.zeros_like(good)) < returns(good)).float().mean() > 0.9


@pytest.mark.parametrize("planner", [MPPI(options(samples=8)), PolicyOnly(options())])
def test_exploration_noise(planner: MPPI | PolicyOnly) -> None:
    model, z, start = LinearQuadratic(gain=1.0), torch.zeros(4000, 3), torch.zeros(4000, H, A)

    def actions(noise_std: float, seed: int) -> Tensor:
        return planner.plan(model, z, start, noise_std=noise_std, generator=seeded(seed)).action

    assert torch.equal(actions(0.0, 0), actions(0.0, 0))
    assert (actions(0.3, 0) - actions(0.0, 0)).std().item() == pytest.approx(0.3, abs=0.02)
    assert actions(3.0, 0).abs().max() == 1


def test_policy_alone_is_the_policy() -> None:
    model, z, start = LinearQuadratic(gain=1.0), states(5), torch.ones(5, H, A)
    plan = PolicyOnly(options()).plan(model, z, start, noise_std=0.0, generator=seeded())
    assert torch.equal(plan.action, model.act(z))
    assert torch.equal(plan.mean, start)


def test_controller_starts_from_the_rest_of_the_last_plan(
    env_spec: EnvSpec, tiny_config: Callable[..., Config]
) -> None:
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(planner={"horizon": H}), torch.device("cpu"))
    with torch.no_grad():  # values start at zero: there would be nothing to plan for
        for parameter in [*agent.model.parameters(), *agent.actor_critic.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    controller = Controller(agent, 3, seeded())
    obs = np.random.default_rng(0).integers(0, 256, (3, *env_spec.obs_shape), dtype=np.uint8)
    actions = controller.act({0: obs[0], 2: obs[2]})
    assert actions.keys() == {0, 2}
    assert controller.plan is not None
    np.testing.assert_array_equal(actions[2], controller.plan.action[1])
    torch.testing.assert_close(controller.mean[2, :-1], controller.plan.mean[1, 1:])
    assert controller.mean[1].abs().max() == 0, "it did not act"
    assert controller.mean[:, -1].abs().max() == 0, "nothing is planned there yet"
    np.testing.assert_array_equal(controller.last_action[[0, 2]], [actions[0], actions[2]])
    controller.took({1: np.array([0.5, -0.5], np.float32)})
    assert controller.last_action[1].tolist() == [0.5, -0.5]
    controller.reset(0)
    assert controller.mean[0].abs().max() == controller.last_action[0].abs().max() == 0
    assert controller.mean[2].abs().max() > 0
