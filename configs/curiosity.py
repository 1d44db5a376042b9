"""Options of curiosity: what counts as novel, and how much it is sought."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from configs.options import NonNegative, Options, Positive, PositiveFloat, Share, Weight

BonusName = Literal["contrastive", "surprise", "knn", "disagreement", "none"]


class CuriosityOptions(Options):
    """A bonus for what is novel, which the behaviour that collects experience seeks beside the reward."""

    bonus: BonusName = "none"
    """What is novel: no match in memory, a surprise, few neighbours, disagreeing models; or no curiosity."""
    weight: Weight = 1.0
    """Weight of the bonus beside the reward at the start, each in units of the deviation of its values."""
    final_weight: Weight = 0.1
    """Weight that remains; at 0 the behaviour is the task's own."""
    frames: Positive = 50_000
    """Frames over which the weight goes from the one to the other."""
    own_share: Share = 0.5
    """Share of the training episodes in which the agent does its task itself, once rewards were seen."""
    memory: Annotated[int, Field(gt=0, le=10_000_000)] = 4096
    """Keys of past states that a state is compared with (contrastive, surprise, knn)."""
    planning_memory: Positive = 2048
    """Of these, how many at most, evenly spaced, imagined states are compared with: plans ask often."""
    temperature: PositiveFloat = 0.1
    """Divides the cosines of keys (contrastive, surprise)."""
    near: Share = 0.7
    """Keys in memory with a larger cosine to the one that came are no negatives of surprise."""
    neighbours: Positive = 12
    """Nearest keys whose distance counts (knn)."""
    members: Annotated[int, Field(ge=2, le=100)] = 5
    """Models in the ensemble (disagreement)."""
    member_dim: Positive = 128
    """Width of their hidden layers: all of them look at every imagined step."""
    clip: PositiveFloat = 5.0
    """Largest distance of a bonus from its running mean, in deviations."""
    extra_updates: NonNegative = 1
    """Further updates of the exploring critics and policy per update, on latents that are already encoded."""
