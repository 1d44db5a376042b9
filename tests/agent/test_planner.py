from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.agent import Agent
from agent.controller import Controller
from agent.planners import base, baselines, cem
from agent.planners.base import Plan, Planner, PlanningModel, rollout, try_out
from agent.planners.cem import ICEM, colouring
from agent.planners.registry import PLANNERS
from configs.control import ControlName, PlannerOptions
from configs.schema import Config
from envs.spec import EnvSpec, Observation

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


THOROUGH = {"samples": 512, "iterations": 20, "max_std": 0.5, "min_std": 0.02}


def states(count: int, seed: int = 0) -> Tensor:
    """Small ones, so that the best actions lie well inside [-1, 1]."""
    return 0.25 * (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SEARCHES = ("mppi", "cem", "icem", "random")


def make(kind: str, **changes: float) -> Planner:
    return PLANNERS[kind](options(**changes))


def plan_with(
    planner: Planner,
    model: PlanningModel,
    z: Tensor,
    memory: Tensor | None = None,
    *,
    noise_std: float = 0.0,
    seed: int = 0,
) -> Plan:
    memory = planner.start(len(z), A, z.device) if memory is None else memory
    return planner.plan(model, z, memory, noise_std=noise_std, generator=seeded(seed))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Offsets (E, N, H, A) and returns (E, N) of each batch of candidates, in order."""
    batches: list[tuple[Tensor, Tensor]] = []

    def recorded(model: PlanningModel, z: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        actions, returns = try_out(model, z, offsets)
        batches.append((offsets.clone(), returns.clone()))
        return actions, returns

    for module in (base, baselines, cem):
        monkeypatch.setattr(module, "try_out", recorded)
    return batches


@pytest.mark.parametrize("gain", [0.0, 0.5])
@pytest.mark.parametrize(
    ("kind", "action_error", "lost_share"),
    [("mppi", 0.03, 0.005), ("cem", 0.03, 0.005), ("icem", 0.03, 0.005), ("random", 0.4, 0.3)],
)
def test_planners_find_the_known_optimum(
    kind: str, action_error: float, lost_share: float, gain: float
) -> None:
    model, z = LinearQuadratic(gain=gain), states(16)
    plan = plan_with(make(kind, **THOROUGH), model, z)
    best_action = -z @ model.K
    assert best_action.abs().max() < 1
    assert (plan.action - best_action).abs().max() < action_error
    lost = model.value(z) - rollout(model, z, plan.offsets)[1]  # the value is that of the best plan
    assert lost.min() > -1e-5
    assert lost.mean() < lost_share * -model.value(z).mean()


def test_refining_beats_the_floor() -> None:
    """At equal cost, and the floor beats a policy that does nothing."""
    model, z = LinearQuadratic(), 2 * states(64)
    plans = {kind: plan_with(make(kind, samples=64, iterations=4), model, z) for kind in PLANNERS}
    lost = {
        kind: (model.value(z) - rollout(model, z, plan.offsets)[1]).mean() for kind, plan in plans.items()
    }
    assert max(lost["mppi"], lost["cem"], lost["icem"]) < 0.7 * lost["random"]
    assert lost["random"] < 0.3 * lost["policy"]


def test_every_name_has_a_planner() -> None:
    assert PLANNERS.keys() == set(get_args(ControlName))


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


def test_mppi_acts_as_it_always_did() -> None:
    """Actions of this seed, written down before other planners came beside it."""
    model, z, planner = LinearQuadratic(gain=0.5), states(2, seed=3), make("mppi")
    first = plan_with(planner, model, z, noise_std=0.1)
    second = plan_with(planner, model, z, first.memory, noise_std=0.1, seed=1)
    expected = torch.tensor(
        [
            [[0.35672811, 0.22161801], [0.33829153, 0.20914510]],
            [[0.10623480, 0.53601700], [0.07350005, 0.34699440]],
        ]
    )
    torch.testing.assert_close(torch.stack((first.action, second.action)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", PLANNERS)
def test_environments_are_planned_for_independently(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once or one by one, given the same draws for each environment."""
    model, z, planner = LinearQuadratic(gain=0.5), states(3), make(kind)
    memory = 0.1 * torch.randn(3, planner.remembered, H, A, generator=seeded())
    memory[1] = 0.0  # as at an episode's start

    def each_its_own(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(shape: tuple[int, ...], *, generator: list[torch.Generator], device: object) -> Tensor:
            return torch.stack([draw(shape[1:], generator=one) for one in generator])

        return drawn

    for name in ("rand", "randn"):
        monkeypatch.setattr(torch, name, each_its_own(getattr(torch, name)))

    def plan(rows: list[int]) -> dict[str, Tensor]:
        generators = [torch.Generator().manual_seed(row) for row in rows]
        found = planner.plan(model, z[rows], memory[rows], noise_std=0.3, generator=generators)  # type: ignore[arg-type]
        return vars(found)

    together = plan([0, 1, 2])
    for row in range(3):
        for name, value in plan([row]).items():
            torch.testing.assert_close(value[0], together[name][row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gain", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kind", SEARCHES)
def test_a_plan_is_never_predicted_worse_than_the_policy(kind: str, gain: float) -> None:
    """However poor the search: four candidates, one iteration."""
    model, z = LinearQuadratic(gain=gain), 4 * states(200)
    planner = make(kind, samples=4, iterations=1, temperature=10.0)
    memory = torch.full((200, planner.remembered, H, A), 0.2)  # better than the policy here, worse there
    plan = plan_with(planner, model, z, memory)
    policy_action, policy_return = rollout(model, z, torch.zeros(200, H, A))
    action, found = rollout(model, z, plan.offsets)
    assert (found >= policy_return - 1e-5).all()
    torch.testing.assert_close(plan.action, action)
    torch.testing.assert_close(plan.policy_action, policy_action)
    is_beaten = plan.advantage > 0
    assert (plan.offsets[~is_beaten] == 0).all()
    assert (plan.memory[~is_beaten] == 0).all()
    assert (plan.offsets[plan.advantage > 1e-6] != 0).any(-1).any(-1).all()
    if gain == 1:  # nothing beats it
        torch.testing.assert_close(plan.action, plan.policy_action)
    else:
        assert 0 < is_beaten.float().mean() < 1


@pytest.mark.parametrize("kind", ["mppi", "cem", "icem"])
def test_the_plan_before_is_a_candidate(kind: str) -> None:
    """With a narrow search and a low temperature, what comes out is as good as what went in."""
    model, z = LinearQuadratic(), states(64)
    good = plan_with(make(kind, **THOROUGH), model, z).offsets
    narrow = make(kind, iterations=1, max_std=0.001, min_std=0.001, temperature=0.02)

    def returns(before: Tensor) -> Tensor:
        memory = before[:, None].expand(-1, narrow.remembered, -1, -1)
        return rollout(model, z, plan_with(narrow, model, z, memory, seed=1).offsets)[1]

    torch.testing.assert_close(returns(good), rollout(model, z, good)[1], rtol=0.05, atol=1e-3)
    assert (returns(torch.zeros_like(good)) < returns(good)).float().mean() > 0.9


@pytest.mark.parametrize("kind", PLANNERS)
def test_memory_is_the_plan_one_decision_later(kind: str) -> None:
    """Mean first, where the mean is what is proposed; beyond the plan, the policy decides."""
    planner = make(kind)
    plan = plan_with(planner, LinearQuadratic(), states(8))
    assert plan.memory.shape == (8, planner.remembered, H, A)
    assert (plan.memory[:, :, -1] == 0).all()
    proposed = {"mppi": 0, "cem": 0, "icem": 1}.get(kind)  # icem proposes the best of the elite
    if proposed is not None:
        assert torch.equal(plan.memory[:, proposed, :-1], plan.offsets[:, 1:])


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_share_of_the_first_candidates_is_close_to_the_policy(
    kind: str, tried: list[tuple[Tensor, Tensor]]
) -> None:
    planner = make(kind, samples=1000, iterations=1, policy_share=0.3, min_std=0.01, noise_exponent=0.0)
    plan_with(planner, LinearQuadratic(), states(3))
    offsets = tried[0][0]
    assert (offsets == 0).all(-1).all(-1).any(1).all(), "the policy itself"
    spread = offsets.square().mean(dim=(-1, -2)).sqrt()
    assert (spread < 0.05).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert spread[spread > 0.05].square().mean().sqrt().item() == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "batches"),
    [("mppi", [128, 128, 2]), ("cem", [128, 128, 2]), ("icem", [132, 102, 2]), ("random", [256, 2])],
)
def test_cost_of_a_decision(kind: str, batches: list[int], tried: list[tuple[Tensor, Tensor]]) -> None:
    """Candidates that the model rolls out, as docs/planning.md says."""
    plan_with(PLANNERS[kind](PlannerOptions()), LinearQuadratic(), states(3))
    assert [offsets.shape[1] for offsets, _ in tried] == batches


def test_icem_proposes_the_best_candidate_of_all_iterations(tried: list[tuple[Tensor, Tensor]]) -> None:
    """So it keeps the best of each; with few candidates that is seldom one of the last."""
    model, z = LinearQuadratic(), states(100)
    plan = plan_with(make("icem", samples=6, iterations=4), model, z)
    best_of_each = torch.stack([returns.amax(dim=1) for _, returns in tried[:-1]])
    assert (best_of_each.argmax(dim=0) < 3).any()
    torch.testing.assert_close(rollout(model, z, plan.offsets)[1], best_of_each.amax(dim=0))


def test_icem_hands_its_elite_on_and_draws_what_is_the_policy_afresh(
    tried: list[tuple[Tensor, Tensor]],
) -> None:
    model, z, planner = LinearQuadratic(), torch.ones(5, 3), make("icem")
    assert isinstance(planner, ICEM)
    memory = plan_with(planner, model, z).memory
    memory[0] = 0.0
    tried.clear()
    plan_with(planner, model, z, memory, seed=1)
    kept = tried[0][0][:, -planner.kept :]
    assert torch.equal(kept[1:], memory[1:, 1:])
    assert (kept[0] != 0).any(-1).any(-1).all()


def test_icem_moves_its_mean_to_the_elite_but_for_a_tenth(tried: list[tuple[Tensor, Tensor]]) -> None:
    planner = make("icem", iterations=1)
    memory = 0.1 * torch.randn(5, planner.remembered, H, A, generator=seeded())
    plan = plan_with(planner, LinearQuadratic(), torch.ones(5, 3), memory, seed=1)
    offsets, returns = tried[0]
    assert torch.equal(offsets[:, 1], memory[:, 0]), "the mean is a candidate of the last iteration"
    for env in range(5):
        elite = offsets[env, returns[env].argsort(descending=True)[:4]]
        mean = 0.9 * elite.mean(dim=0) + 0.1 * memory[env, 0]
        torch.testing.assert_close(plan.memory[env, 0, :-1], mean[1:])


@pytest.mark.parametrize(("horizon", "exponent"), [(3, 0.0), (3, 1.0), (8, 2.5), (40, 4.0)])
def test_coloured_noise_has_the_power_of_its_exponent(horizon: int, exponent: float) -> None:
    """Autocovariance of a sum of cosines with random phases, whose power is that of their frequencies."""
    length = max(horizon, 30)
    power = [max(min(k, length - k), 1) ** -exponent for k in range(length)]
    expected = np.array(
        [
            [
                sum(p * np.cos(2 * np.pi * k * (i - j) / length) for k, p in enumerate(power)) / sum(power)
                for j in range(horizon)
            ]
            for i in range(horizon)
        ]
    )
    factor = colouring(horizon, exponent)
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-5)


def test_icem_draws_candidates_that_are_smooth_over_time(tried: list[tuple[Tensor, Tensor]]) -> None:
    correlation = []
    for exponent in (0.0, 1.0, 3.0):
        tried.clear()
        planner = make("icem", samples=5000, iterations=1, noise_exponent=exponent)
        plan_with(planner, LinearQuadratic(), states(1))
        offsets = tried[0][0][0]
        assert offsets.std(dim=0).numpy() == pytest.approx(0.4, abs=0.02)
        assert (offsets[:, 0, 0] * offsets[:, 0, 1]).mean().abs() < 0.01, "actuators are independent"
        correlation.append((offsets[:, :-1] * offsets[:, 1:]).mean().item() / 0.4**2)
    assert correlation[0] == pytest.approx(0.0, abs=0.05)
    assert 0.3 < correlation[1] < correlation[2] - 0.1 < 1.0


@pytest.mark.parametrize("kind", PLANNERS)
def test_exploration_noise(kind: str) -> None:
    model, z, planner = LinearQuadratic(gain=1.0), torch.zeros(4000, 3), make(kind, samples=8)

    def actions(noise_std: float, seed: int) -> Tensor:
        return plan_with(planner, model, z, noise_std=noise_std, seed=seed).action

    assert torch.equal(actions(0.0, 0), actions(0.0, 0))
    assert (actions(0.3, 0) - actions(0.0, 0)).std().item() == pytest.approx(0.3, abs=0.02)
    assert actions(3.0, 0).abs().max() == 1


def test_policy_alone_is_the_policy() -> None:
    model, z = LinearQuadratic(gain=1.0), states(5)
    plan = plan_with(make("policy"), model, z)
    assert torch.equal(plan.action, model.act(z))
    assert torch.equal(plan.offsets, torch.zeros(5, H, A))
    assert torch.equal(plan.advantage, torch.zeros(5))


def test_controller_starts_from_the_rest_of_the_last_plan(
    env_spec: EnvSpec, tiny_config: Callable[..., Config]
) -> None:
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(planner={"horizon": H}), torch.device("cpu"))
    with torch.no_grad():  # values start at zero: there would be nothing to plan for
        for parameter in [*agent.model.parameters(), *agent.actor_critic.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    controller = Controller(agent, 3, seeded())
    pixels = np.random.default_rng(0).integers(0, 256, (3, *env_spec.obs_shape), dtype=np.uint8)
    vector = np.zeros(env_spec.proprio_dim, np.float32)
    actions = controller.act({index: Observation(pixels[index], vector) for index in (0, 2)})
    assert actions.keys() == {0, 2}
    assert controller.plan is not None
    np.testing.assert_array_equal(actions[2], controller.plan.action[1])
    assert torch.equal(controller.memory[2], controller.plan.memory[1])
    assert controller.memory[1].abs().max() == 0, "it did not act"
    assert controller.memory[:, :, -1].abs().max() == 0, "nothing is planned there yet"
    np.testing.assert_array_equal(controller.last_action[[0, 2]], [actions[0], actions[2]])
    controller.took({1: np.array([0.5, -0.5], np.float32)})
    assert controller.last_action[1].tolist() == [0.5, -0.5]
    controller.reset(0)
    assert controller.memory[0].abs().max() == controller.last_action[0].abs().max() == 0
    assert controller.memory[2].abs().max() > 0
