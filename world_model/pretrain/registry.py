"""Methods by name. Adding one: a class in a module beside this file, a line here, a name in the options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from configs.pretrain import MethodName, MethodOptions
from configs.schema import ObsName
from configs.world_model import ObjectiveName, WorldModelOptions
from envs.spec import EnvSpec
from world_model.encoder import Encoder
from world_model.losses import triplet
from world_model.objectives.distances import margin_of_both_pairs
from world_model.objectives.redundancy import barlow_twins_per_feature, vicreg_per_similarity
from world_model.pretrain.clip import CLIP
from world_model.pretrain.method import Method
from world_model.pretrain.pairs import BYOL, Distances, MoCo, MoCo3, Redundancy, SimCLR
from world_model.pretrain.world import Predictive, RowWise, Temporal

_PAIRS: dict[MethodName, Callable[[Encoder, int, MethodOptions], Method]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "barlow": partial(Redundancy, loss=barlow_twins_per_feature),
    "vicreg": partial(Redundancy, loss=vicreg_per_similarity),
    "triplet": partial(Distances, loss=triplet),
    "margin": partial(Distances, loss=margin_of_both_pairs),
}
_WORLD: dict[MethodName, tuple[Callable[[EnvSpec, WorldModelOptions, ObsName], Method], ObjectiveName]] = {
    "temporal": (Temporal, "temporal"),
    "predictive": (Predictive, "none"),
    "reconstruction": (RowWise, "reconstruction"),
    "supervised": (RowWise, "supervised"),
}


def make_method(
    name: MethodName, env_spec: EnvSpec, obs: ObsName, model: WorldModelOptions, options: MethodOptions
) -> Method:
    """Build a method; parameters come from torch's global generator.

    Args:
        name: of the method.
        env_spec: shapes of what was recorded.
        obs: what the encoder looks at.
        model: of the encoder, and of the objective of windowed methods.
        options: of the others.
    """
    if name in _WORLD:
        make, objective = _WORLD[name]
        return make(env_spec, model.model_copy(update={"objective": objective}), obs)
    encoder, options = Encoder(env_spec, model, obs), options.for_method(name)
    if name == "clip":
        return CLIP(encoder, model.latent_dim, options, state_dim=env_spec.proprio_dim)
    if name == "moco" and options.moco == "v3":
        return MoCo3(encoder, model.latent_dim, options)
    return _PAIRS[name](encoder, model.latent_dim, options)
