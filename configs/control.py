"""Options of control: critics and policy, and the search around the policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.options import NonNegative, NonNegativeFloat, Options, Positive, PositiveFloat, Rate, Share

ControlName = Literal["mppi", "cem", "icem", "random", "policy"]


class ActorCriticOptions(Options):
    """Critic ensemble and policy."""

    critics: Annotated[int, Field(ge=2)] = 2
    """Critics in the ensemble; targets use the minimum of two drawn at random."""
    discount: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Discount per decision; unset: from the episode length, 1 - 5 / decisions, within [0.95, 0.995]."""
    trace: Share = 1.0
    """Lambda of the returns inside a window: 0 is one-step targets, 1 the longest the window holds."""
    critic_tau: Rate = 0.02
    """Step of the target critics towards the critics, per update."""
    value_weight: NonNegativeFloat = 0.5
    """Weight of the value cross-entropy on rolled-out latents."""
    extra_updates: NonNegative = 2
    """Further critic and policy updates per update, on latents that are already encoded."""
    imagined_updates: NonNegative = 1
    """How many of the further updates learn from returns that the model imagines."""
    imagination_after_updates: NonNegative = 5000
    """Updates before the first imagined ones: a model that has seen little misleads the critics."""
    imagination_horizon: Positive = 5
    """Decisions imagined for such a return."""
    imagination_trace: Share = 0.95
    """Lambda of imagined returns: 0 trusts the critics after one decision, 1 the model to the horizon."""
    imagination_std: NonNegativeFloat = 0.4
    """Deviation of the first imagined action from the policy's."""
    target_noise: NonNegativeFloat = 0.2
    """Deviation of the smoothing noise on the policy's action in value targets."""
    action_penalty: NonNegativeFloat = 1e-3
    """Weight of the squared pre-tanh action, which keeps the policy out of saturation."""
    planner_weight: NonNegativeFloat = 0.0
    """Weight of the policy's squared distance from recorded actions, which the planner chose."""
    planner_filter: bool = True
    """Count this distance only where the critics prefer the recorded action to the policy's."""

    @model_validator(mode="after")
    def _imagined_are_among_the_further_updates(self) -> ActorCriticOptions:
        if self.imagined_updates > self.extra_updates:
            raise ValueError(
                f"imagined_updates {self.imagined_updates} is more than extra_updates {self.extra_updates}, "
                "of which they are a part: lower the one or raise the other"
            )
        return self


class PlannerOptions(Options):
    """Control: a search around the policy in latent space, or the policy alone."""

    control: ControlName = "mppi"
    """How actions are chosen: searches, random shooting as their floor, or the policy alone."""
    horizon: Positive = 3
    """Actions planned ahead."""
    samples: Annotated[int, Field(ge=2)] = 128
    """Candidate plans drawn in each iteration."""
    iterations: Positive = 2
    """Refinements of the plan for each decision."""
    policy_share: Share = 0.0
    """Share of the first candidates drawn with min_std around the policy, which always is one itself."""
    temperature: PositiveFloat = 1.0
    """Of the softmax over candidates (mppi), in units of the spread of their predicted returns."""
    elite_share: Rate = 0.125
    """Share of the candidates that cem and icem fit the next ones to."""
    noise_exponent: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Power of the noise of icem is 1 / frequency^exponent: 0 is white, more is smoother over time."""
    max_std: PositiveFloat = 0.4
    """Deviation from the policy's actions that every search starts with (actions range over [-1, 1])."""
    min_std: PositiveFloat = 0.1
    """Smallest deviation to which the search narrows."""
