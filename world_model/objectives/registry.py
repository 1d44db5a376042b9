"""Objectives by name. Adding one: a module beside this file, a line here, a name in the schema."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from configs.schema import ObjectiveName, WorldModelOptions
from world_model.objectives.base import Objective
from world_model.objectives.contrastive import Contrastive

OBJECTIVES: dict[ObjectiveName, Callable[[WorldModelOptions], Objective]] = {
    "contrastive": partial(Contrastive, augmentation=True, temporal=True, consistency=True),
    "predictive": partial(Contrastive, consistency=True),
    "augmentation": partial(Contrastive, augmentation=True),
    "temporal": partial(Contrastive, temporal=True),
    "none": lambda options: Objective(),
}
