"""Objectives by name. Adding one: a module beside this file, a line here, a name in the schema."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from configs.world_model import ObjectiveName, WorldModelOptions
from envs.spec import EnvSpec
from world_model.losses import triplet
from world_model.objectives.base import Objective, Predictive
from world_model.objectives.bootstrapped import Bootstrapped
from world_model.objectives.contrastive import Contrastive
from world_model.objectives.distances import Distances, margin_of_both_pairs
from world_model.objectives.reconstruction import Reconstruction
from world_model.objectives.redundancy import Redundancy, barlow_twins_per_feature, vicreg_per_similarity
from world_model.objectives.supervised import Supervised

OBJECTIVES: dict[ObjectiveName, Callable[[EnvSpec, WorldModelOptions], Objective]] = {
    "contrastive": partial(Contrastive, terms=("augmentation", "temporal", "consistency")),
    "predictive": Predictive,
    "augmentation": partial(Contrastive, terms=("augmentation",)),
    "temporal": partial(Contrastive, terms=("temporal",)),
    "byol": Bootstrapped,
    "barlow": partial(Redundancy, loss=barlow_twins_per_feature),
    "vicreg": partial(Redundancy, loss=vicreg_per_similarity),
    "triplet": partial(Distances, loss=triplet),
    "margin": partial(Distances, loss=margin_of_both_pairs),
    "reconstruction": Reconstruction,
    "supervised": Supervised,
    "none": Objective,
}
