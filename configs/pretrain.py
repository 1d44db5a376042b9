"""Options of `nearfar pretrain`; defaults live here and nowhere else."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Literal, get_args

import tyro
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
from configs.schema import ObsName
from configs.views import RecipeName, ViewOptions, find_recipe
from configs.world_model import EncoderOptions, WorldModelOptions

MethodName = Literal[
    "simclr",
    "moco",
    "byol",
    "barlow",
    "vicreg",
    "triplet",
    "margin",
    "temporal",
    "predictive",
    "reconstruction",
    "supervised",
    "clip",
]
PRETRAIN_FILE = "pretrain.yaml"
"""Options of a pretraining, in its directory."""
WINDOWED = ("temporal", "predictive", "reconstruction", "supervised")
"""Methods that see what was done between observations: the agent's own objectives."""


_COMPARED: tuple[MethodName, ...] = tuple(name for name in get_args(MethodName) if name not in WINDOWED)
_NEAR_WINDOWS: dict[MethodName, int] = {"simclr": 0, "moco": 0, "clip": 0, "triplet": 5, "margin": 5}
"""Methods with negatives that know where they are from, and their near windows unless another is given."""
_USED_BY: dict[str, tuple[str, ...]] = {
    "model.horizon": WINDOWED,
    "pairs.hidden_dim": _COMPARED,
    "pairs.projection_dim": _COMPARED,
    "pairs.temperature": ("simclr", "moco", "clip"),
    "pairs.decoupled": ("simclr",),
    "pairs.moco": ("moco",),
    "pairs.queue": ("moco",),
    "pairs.key_tau": ("moco", "byol", "triplet", "margin"),
    "pairs.key_schedule": ("moco", "byol", "triplet", "margin"),
    "pairs.margin": ("triplet", "margin"),
    "pairs.near_window": tuple(_NEAR_WINDOWS),
    "pairs.tile": ("simclr", "moco", "clip"),
}
"""Options, and the methods that they change."""
_SEEN_IN = {
    "model.encoder.channels": "pixels",
    "model.encoder.proprio_noise": "state",
    "model.encoder.proprio_dropout": "state",
}
"""Options of the encoder, and what it has to look at for them to change anything."""
_NOISE = ("model.encoder.proprio_noise", "model.encoder.proprio_dropout")
"""Options of how vectors are varied."""


class PositiveOptions(Options):
    """What makes two observations a positive pair."""

    by: Literal["augmentation", "time", "both"] = "augmentation"
    """Another view of the observation; a later observation as it is; another view of a later one."""
    min_gap: Positive = 1
    """Decisions from an observation to its later positive, at least."""
    max_gap: Positive = 5
    """Decisions from an observation to its later positive, at most."""

    @model_validator(mode="after")
    def _gaps_are_ordered(self) -> PositiveOptions:
        if self.min_gap > self.max_gap:
            raise ValueError(f"min_gap {self.min_gap} exceeds max_gap {self.max_gap}")
        return self


class MethodOptions(Options):
    """What is learnt from pairs of views, and by what network beside the encoder."""

    hidden_dim: Positive = 512
    """Width of the two hidden layers of projection and predictor."""
    projection_dim: Positive = 128
    """Size P of the projection in which views are compared."""
    temperature: PositiveFloat = 0.2
    """Divides the cosine logits of simclr and moco; clip learns its own and starts with this."""
    decoupled: bool = False
    """Leave the positive out of the denominator (simclr)."""
    moco: Literal["v1", "v2", "v3"] = "v2"
    """v1: linear projection; v2: deep one; v3: a predictor, both ways, and no queue."""
    queue: KeyCount = 4096
    """Keys of earlier batches that are negatives of moco v1 and v2."""
    key_tau: Rate = 0.01
    """First step per update of momentum networks towards online ones (moco, byol, triplet, margin)."""
    key_schedule: Literal["cosine", "constant"] = "cosine"
    """How this step goes on: to zero along a cosine, or not at all."""
    margin: PositiveFloat = 1.0
    """Of the distances of triplet and margin."""
    near_window: NonNegative | None = None
    """States of one episode at most this many decisions apart are no negatives; 0: copies of the same state.
    Unset: 0 for simclr, moco and clip, 5 for triplet and margin."""
    tile: NonNegative = 0
    """Rows of the contrastive losses that are scored at a time; 0: all of them."""

    def for_method(self, name: MethodName) -> MethodOptions:
        """The same, with what is unset as this method has it."""
        if self.near_window is not None or name not in _NEAR_WINDOWS:
            return self
        return self.model_copy(update={"near_window": _NEAR_WINDOWS[name]})


class OptimizerOptions(Options):
    """Gradient steps."""

    name: Literal["adamw", "lars"] = "adamw"
    """AdamW, or LARS for very large batches."""
    learning_rate: PositiveFloat | None = None
    """Step size after the warm-up. Unset: 0.3 x batch.size / 256 for lars; for adamw 3e-4 with methods that
    see windows, 1e-3 with the others."""
    weight_decay: NonNegativeFloat = 1e-6
    """Of weights; biases and gains of normalisations have none."""
    warmup: Share = 0.05
    """Share of the updates over which the step size rises to this."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How it goes on: to zero along a cosine, or not at all."""
    gradient_norm: PositiveFloat = 20.0
    """Gradients are clipped to this global norm."""


class BatchOptions(Options):
    """What a gradient step learns from."""

    size: Annotated[int, Field(ge=2)] = 256
    """Observations (or windows) a step, over all processes."""
    chunk: NonNegative = 0
    """Rows that are encoded at a time, where activations of all do not fit (gradient caching); 0: all."""


class ModelOptions(Options):
    """The encoder, as the agent has it."""

    encoder: EncoderOptions = EncoderOptions()
    """Encoder of pixels and of state observations."""
    latent_dim: Positive = 256
    """Size Z of the latent."""
    simnorm_group: Positive = 8
    """Latent entries that share one softmax (SimNorm, TD-MPC2)."""
    horizon: Positive = 3
    """Actions H of a window (temporal, predictive, reconstruction, supervised)."""

    def world_model(self) -> WorldModelOptions:
        """The agent's options with these; the rest keeps the agent's defaults.

        Raises:
            ValidationError: they do not fit together.
        """
        return WorldModelOptions(**dict(self))


class PretrainLogging(Options):
    """What pretraining writes and how often."""

    every_updates: Positive = 100
    """Gradient steps between written metrics."""
    checkpoint_every_updates: Positive = 1_000
    """Gradient steps between checkpoints (the newest two stay)."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    progress: bool = True
    """Draw a progress bar."""


class PretrainConfig(Options):
    """Pretraining of an encoder on recorded episodes."""

    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Folder of episodes, or a run directory that has one; repeat it for several."""
    method: MethodName = "simclr"
    """How the encoder learns."""
    updates: Positive = 10_000
    """Gradient steps."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """One seed for everything: networks, batches, views."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    out: str | None = None
    """Where results go; default runs/pretrain/<method>/seed-<seed>. What was begun there goes on."""
    obs: ObsName = "pixels"
    """What the encoder sees: frames, the task's own observation vector, or both."""
    stack: Annotated[int, Field(ge=1, le=16)] = 3
    """Frames in an observation; 1: single frames."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of the computation; 0 leaves it to torch."""
    model: ModelOptions = ModelOptions()
    """The encoder."""
    recipe: RecipeName = "shift"
    """How views are made, by name; options of `views` have the last word."""
    views: ViewOptions = find_recipe("shift")
    """How views are made."""
    positives: PositiveOptions = PositiveOptions()
    """What makes two observations a positive pair."""
    pairs: MethodOptions = MethodOptions()
    """What is learnt from pairs of views."""
    batch: BatchOptions = BatchOptions()
    """What a gradient step learns from."""
    optimizer: OptimizerOptions = OptimizerOptions()
    """Gradient steps and their schedule."""
    logging: PretrainLogging = PretrainLogging()
    """What is written and how often."""

    @property
    def is_windowed(self) -> bool:
        """Whether the method sees what was done between observations."""
        return self.method in WINDOWED

    @property
    def learning_rate(self) -> float:
        """Step size after the warm-up; that of lars grows with the batch (SimCLR, arXiv:2002.05709, 2.2)."""
        if self.optimizer.learning_rate is not None:
            return self.optimizer.learning_rate
        if self.optimizer.name == "lars":
            return 0.3 * self.batch.size / 256
        return 3e-4 if self.is_windowed else 1e-3

    @model_validator(mode="after")
    def _options_fit_the_method(self) -> PretrainConfig:
        for name, methods in _USED_BY.items():
            if self.method not in methods and self._is_given(name):
                raise ValueError(f"{name} is for {', '.join(methods)}, not for {self.method}: leave it out")
        if self.pairs.moco == "v3" and self._is_given("pairs.queue"):
            raise ValueError("moco v3 has no queue: leave pairs.queue out")
        if self.pairs.moco == "v1" and self._is_given("pairs.hidden_dim"):
            raise ValueError("moco v1 has a linear projection: leave pairs.hidden_dim out")
        if self.method == "clip" and self.obs != "pixels":
            raise ValueError(f"clip compares pixels with state: use obs pixels, not {self.obs}")
        self.model.world_model()
        return self

    @model_validator(mode="after")
    def _positives_fit_the_method(self) -> PretrainConfig:
        given = self.positives != PositiveOptions()
        if self.is_windowed and given:
            raise ValueError(
                f"positives are for methods that learn from pairs; {self.method} predicts what follows: "
                "leave them out, or choose another method"
            )
        if self.method == "clip" and given:
            raise ValueError("positives of clip are the vectors of the same moment: leave positives out")
        if self.positives.by == "augmentation" and given:
            raise ValueError(
                "positives.by augmentation has no later observations: leave positives.min_gap and "
                "positives.max_gap out, or use positives.by both"
            )
        return self

    @model_validator(mode="after")
    def _views_are_seen(self) -> PretrainConfig:
        if self._is_given("model.encoder.shift_padding"):
            raise ValueError(
                "model.encoder.shift_padding is the augmentation of train: "
                "leave it out, and use views.shift_padding"
            )
        is_varied = self.views != find_recipe("shift")
        if is_varied and "pixels" not in self.obs:
            raise ValueError(
                f"views are of pixels, at which obs {self.obs} does not look: leave recipe and views out"
            )
        if self.positives.by == "time" and (is_varied or any(map(self._is_given, _NOISE))):
            raise ValueError(
                "positives.by time compares observations as they are, without views and noise: leave recipe, "
                f"views, {' and '.join(_NOISE)} out, or use positives.by both"
            )
        if self.views.flip and (self.is_windowed or self.method == "clip"):
            raise ValueError(
                f"views.flip mirrors frames alone, and not the actions and vectors that {self.method} sees "
                "beside them: set it to 0"
            )
        if self.views.crop != self.model.encoder.crop:
            raise ValueError(
                f"views of {self.views.crop} pixels need an encoder of such: model.encoder.crop is "
                f"{self.model.encoder.crop}, views.crop is {self.views.crop}"
            )
        return self

    @model_validator(mode="after")
    def _encoder_sees_what_it_has_options_for(self) -> PretrainConfig:
        for name, needed in _SEEN_IN.items():
            if self.method == "reconstruction" and needed == "pixels":  # what it draws has channels, too
                continue
            if needed not in self.obs and self._is_given(name):
                raise ValueError(f"{name} is for obs with {needed}, not for {self.obs}: leave it out")
        return self

    def _is_given(self, name: str) -> bool:
        """Whether an option inside a group, by dotted name, differs from its default."""
        group, _, option = name.partition(".")
        value = attrgetter(option)
        return bool(value(getattr(self, group)) != value(type(self).model_fields[group].default))
