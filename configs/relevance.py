"""Options that count only beside others: who sets one where it does nothing is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from configs.load import ConfigError
from configs.schema import Config


@dataclass(frozen=True)
class Condition:
    """When some options count, in words and as a test."""

    words: str
    holds: Callable[[Config], bool]


def _objective(*names: str) -> Condition:
    return Condition(f"world_model.objective {_either(names)}", lambda c: c.world_model.objective in names)


def _bonus(*names: str) -> Condition:
    return Condition(f"curiosity.bonus {_either(names)}", lambda c: c.curiosity.bonus in names)


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


_PAIRED = ("contrastive", "augmentation", "byol", "barlow", "vicreg")
_IN_TIME = ("contrastive", "temporal", "byol", "barlow", "vicreg", "triplet", "margin")
_INFO_NCE = Condition(
    "world_model.objective contrastive or temporal, or augmentation with cosine similarity",
    lambda c: (
        c.world_model.objective in ("contrastive", "temporal")
        or (c.world_model.objective == "augmentation" and c.world_model.similarity == "cosine")
    ),
)
_PIXELS = Condition("obs pixels or pixels+state", lambda c: c.sees_pixels)
_VECTORS = Condition("obs state or pixels+state", lambda c: c.sees_proprio)
_IMAGINED = Condition("actor_critic.imagined_updates above 0", lambda c: c.actor_critic.imagined_updates > 0)
_IMITATED = Condition("actor_critic.planner_weight above 0", lambda c: c.actor_critic.planner_weight > 0)
_WARMED_UP = Condition("encoder_mode warmup", lambda c: c.encoder_mode == "warmup")
_CURIOUS = _bonus("contrastive", "surprise", "knn", "disagreement")

CONDITIONS: dict[str, Condition] = {
    "world_model.temperature": _INFO_NCE,
    "world_model.projection_dim": _objective(*dict.fromkeys((*_PAIRED, *_IN_TIME))),
    "world_model.augmentation_weight": _objective(*_PAIRED),
    "world_model.temporal_weight": _objective(*_IN_TIME),
    "world_model.consistency_weight": _objective(
        *("contrastive", "predictive", "byol", "barlow", "vicreg", "triplet", "margin"),
        *("reconstruction", "supervised"),
    ),
    "world_model.reconstruction_weight": _objective("reconstruction"),
    "world_model.label_weight": _objective("supervised"),
    "world_model.encoder.channels": _PIXELS,
    "world_model.encoder.shift_padding": _PIXELS,
    "world_model.encoder.crop": _PIXELS,
    "world_model.encoder.proprio_noise": _VECTORS,
    "world_model.encoder.proprio_dropout": _VECTORS,
    "actor_critic.imagination_after_updates": _IMAGINED,
    "actor_critic.imagination_horizon": _IMAGINED,
    "actor_critic.imagination_trace": _IMAGINED,
    "actor_critic.imagination_std": _IMAGINED,
    "actor_critic.planner_filter": _IMITATED,
    "curiosity.weight": _CURIOUS,
    "curiosity.final_weight": _CURIOUS,
    "curiosity.frames": _CURIOUS,
    "curiosity.own_share": _CURIOUS,
    "curiosity.clip": _CURIOUS,
    "curiosity.extra_updates": _CURIOUS,
    "curiosity.memory": _bonus("contrastive", "surprise", "knn"),
    "curiosity.planning_memory": _bonus("contrastive", "knn"),
    "curiosity.temperature": _bonus("contrastive", "surprise"),
    "curiosity.near": _bonus("surprise"),
    "curiosity.neighbours": _bonus("knn"),
    "curiosity.members": _bonus("disagreement"),
    "curiosity.member_dim": _bonus("disagreement"),
    "training.encoder_warmup_updates": _WARMED_UP,
}
"""By the option's path. Those of the planner are not here: `nearfar evaluate --control` may ask for any."""


def check_counts(chosen: Config, before: Config, where: str = "") -> None:
    """Find an option that was set where it does nothing.

    Args:
        chosen: the whole configuration.
        before: the same without what the user set, as the preset has it; what is alike was not set.
        where: begins the message.

    Raises:
        ConfigError: there is one; the message says beside what it counts.
    """
    for path, condition in CONDITIONS.items():
        if _at(chosen, path) != _at(before, path) and not condition.holds(chosen):
            raise ConfigError(
                f"{where}{path} does nothing here: it counts with {condition.words}; leave it out"
            )


def _at(config: Config, path: str) -> Any:
    return reduce(getattr, path.split("."), config)
