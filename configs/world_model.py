"""Options of the world model: encoder, latent dynamics, heads, and what the representation learns from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.options import (
    KeyCount,
    NonNegative,
    NonNegativeFloat,
    Options,
    Positive,
    PositiveFloat,
    Rate,
    Share,
)

ObjectiveName = Literal[
    "contrastive",
    "predictive",
    "augmentation",
    "temporal",
    "byol",
    "barlow",
    "vicreg",
    "triplet",
    "margin",
    "reconstruction",
    "supervised",
    "none",
]


class EncoderOptions(Options):
    """Encoder of pixels (convolutions), of state observations (two hidden layers), or of both."""

    channels: Positive = 24
    """Channels of each of the four 3x3 convolutions (strides 2, 2, 1, 1)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the encoder (autocast), its normalisation aside; dynamics and heads stay in float32."""
    shift_padding: NonNegative = 3
    """Largest random shift of the augmentation, in pixels."""
    crop: NonNegative = 0
    """Height and width of the centre that the encoder sees, after the shift; 0: the whole frame."""
    proprio_noise: NonNegativeFloat = 0.02
    """Deviation of the augmentation's noise on state observations (on the symlog axis)."""
    proprio_dropout: Share = 0.0
    """Share of the entries of state observations that the augmentation sets to zero."""


class WorldModelOptions(Options):
    """Latent dynamics, heads and the representation objective."""

    objective: ObjectiveName = "contrastive"
    """How the representation is learnt."""
    encoder: EncoderOptions = EncoderOptions()
    """Encoder of pixels and of state observations."""
    latent_dim: Positive = 256
    """Size Z of the latent."""
    simnorm_group: Positive = 8
    """Latent entries that share one softmax (SimNorm, TD-MPC2)."""
    hidden_dim: Positive = 256
    """Width of the two hidden layers of dynamics and heads."""
    projection_dim: Positive = 64
    """Size P of the projection in which InfoNCE compares."""
    horizon: Positive = 3
    """Actions H of a training window: the model is unrolled this far."""
    rho: Rate = 0.5
    """Weight of the loss k steps ahead is rho^k."""
    key_tau: Rate = 0.02
    """Step of the momentum key encoder towards the encoder, per update."""
    temperature: PositiveFloat = 0.1
    """Divides the cosine logits of InfoNCE."""
    similarity: Literal["cosine", "bilinear"] = "cosine"
    """Similarity of the augmentation term: bilinear q'Wk at temperature 1 as in CURL, or cosine."""
    near_window: NonNegative = 2
    """States of one episode at most this many decisions apart are near: never negatives."""
    positives: Literal["own", "near"] = "own"
    """Positives of the contrastive temporal term: the state itself, or every state that is near."""
    hardness: NonNegativeFloat = 0.0
    """Weight of a negative of the temporal term is proportional to exp(hardness x logit); 0: all alike."""
    decoupled: bool = False
    """Leave the positives out of the temporal term's denominator."""
    queue: KeyCount = 0
    """Keys of earlier batches that are negatives of the temporal term, too (MoCo)."""
    augmentation_weight: NonNegativeFloat = 0.1
    """Weight of the augmentation term."""
    temporal_weight: NonNegativeFloat = 1.0
    """Weight of the temporal term."""
    consistency_weight: NonNegativeFloat = 20.0
    """Weight of the consistency term."""
    reconstruction_weight: NonNegativeFloat = 100.0
    """Weight of the mean squared error of drawn pixels in [0, 1]."""
    label_weight: NonNegativeFloat = 1.0
    """Weight of the supervised objective's mean squared error of labels on the symlog axis."""
    reward_weight: NonNegativeFloat = 0.5
    """Weight of the reward cross-entropy."""
    continuation_weight: NonNegativeFloat = 0.5
    """Weight of the continuation (termination) cross-entropy, for tasks that can end."""
    bins: Annotated[int, Field(ge=3)] = 101
    """Bins of the two-hot reward and value distributions."""
    symlog_limit: Annotated[float, Field(gt=0, le=80)] = 7.0
    """The bins span [-limit, limit] on the symlog axis."""

    @model_validator(mode="after")
    def _variations_have_a_temporal_term(self) -> WorldModelOptions:
        varied = {
            "positives": self.positives != "own",
            "hardness": self.hardness > 0,
            "decoupled": self.decoupled,
            "queue": self.queue > 0,
        }
        chosen = [name for name, is_varied in varied.items() if is_varied]
        if chosen and self.objective not in ("contrastive", "temporal"):
            raise ValueError(
                f"{' and '.join(chosen)} vary the temporal term of the objectives contrastive and temporal, "
                f"which {self.objective} does not have: leave them out, or choose one of the two"
            )
        return self

    @model_validator(mode="after")
    def _similarity_has_an_augmentation_term(self) -> WorldModelOptions:
        if self.similarity != "cosine" and self.objective not in ("contrastive", "augmentation"):
            raise ValueError(
                f"similarity {self.similarity} is for the augmentation term of contrastive and augmentation, "
                f"which the objective {self.objective} does not have: leave it out, or choose one of them"
            )
        return self

    @model_validator(mode="after")
    def _latent_splits_into_groups(self) -> WorldModelOptions:
        if self.latent_dim % self.simnorm_group:
            raise ValueError(
                f"latent_dim {self.latent_dim} is not a multiple of simnorm_group {self.simnorm_group}"
            )
        return self
