"""All options of nearfar: typed, frozen, validated where they are built.

Defaults live here and nowhere else; presets hold differences only. Every option has one line of
documentation, which is also its `--help` text. Options at the root have short flags (`--task`),
all others are dotted (`--world-model.objective`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from pydantic import Field, field_validator, model_validator

from configs.curiosity import CuriosityOptions
from configs.distractors import NO_DISTRACTORS, DistractorText
from configs.options import NonNegative, NonNegativeFloat, Options, Positive, PositiveFloat, Rate, Share

SMALLEST_FRAME = 32  # pixels: the convolutions leave nothing of much smaller ones

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
ObsName = Literal["pixels", "state", "pixels+state"]
EncoderMode = Literal["finetune", "frozen", "warmup"]
CarriedReplay = Literal["all", "none"]
ControlName = Literal["mppi", "cem", "icem", "random", "policy"]


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
    queue: NonNegative = 0
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


class ReplayOptions(Options):
    """Experience in memory."""

    capacity: Annotated[int, Field(gt=0, le=100_000_000)] = 200_000
    """Observations kept, over all environments; the oldest are overwritten."""
    pair_share: Share = 0.5
    """Share of a batch's rows drawn in pairs from one episode, further apart than the near window."""
    on_device: bool = False
    """Keep frames on the training device instead of in RAM."""


class TrainingOptions(Options):
    """Gradient steps and their schedule."""

    batch_size: Annotated[int, Field(ge=2)] = 64
    """Windows a batch."""
    updates_per_step: PositiveFloat = 1.0
    """Gradient steps per decision, after the random start."""
    random_frames: NonNegative = 4000
    """Frames with uniformly random actions before learning starts."""
    first_updates: NonNegative = 500
    """Gradient steps at the moment learning starts."""
    learning_rate: PositiveFloat = 1e-3
    """Adam step size of world model, critics and policy."""
    encoder_learning_rate: PositiveFloat = 3e-4
    """Adam step size of the encoder."""
    encoder_warmup_updates: NonNegative = 2000
    """Updates before an encoder that the agent starts from learns, with encoder-mode warmup."""
    gradient_norm: PositiveFloat = 20.0
    """Gradients are clipped to this global norm."""
    exploration_std: NonNegativeFloat = 1.0
    """Deviation of the noise on actions when learning starts."""
    exploration_final_std: NonNegativeFloat = 0.1
    """Deviation of the noise that remains."""
    exploration_frames: NonNegative = 20_000
    """Frames over which the noise falls from the one to the other."""
    cuda_graph: bool = False
    """Capture the update as one CUDA graph (on a CPU there is nothing to capture, and it has no effect)."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of the computation; 0 leaves it to torch."""
    deterministic: bool = False
    """Use deterministic kernels on CUDA."""


class EvaluationOptions(Options):
    """Evaluation during training."""

    every_frames: Positive = 10_000
    """Frames between evaluations."""
    episodes: Positive = 10
    """Episodes of each evaluation."""
    average_tau: Rate = 0.001
    """Smallest step, per update, of the slow average of the agent that is evaluated; 1: no average."""
    videos: bool = True
    """Record the first evaluation episode as a GIF."""


class LoggingOptions(Options):
    """What a run writes and how often."""

    every_updates: Positive = 250
    """Gradient steps between written training metrics."""
    checkpoint_every_frames: Positive = 5_000
    """Frames between checkpoints (written when episodes end; the newest two stay)."""
    keep_every_frames: NonNegative = 0
    """Keep the first checkpoint after each multiple of so many frames for good; 0 keeps none."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    progress: bool = True
    """Draw a progress bar."""


class EnvironmentOptions(Options):
    """A task, and how it is drawn and acted in."""

    task: str = "dmc/cartpole-swingup"
    """Task, for instance dmc/walker-walk or gym/Hopper-v5."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import"), tyro.conf.UseAppendAction] = ()
    """Module that registers further tasks with Gymnasium; repeat it, or separate names by commas."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """One seed for everything: task, resets, actions, networks."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    look: Literal["fast", "original"] = "fast"
    """Rendering: fast (no shadows, reflections or multisampling; about 30x faster on a CPU) or original."""
    distract: DistractorText = NO_DISTRACTORS
    """Distractors, for instance background=medium,camera=easy,colour=hard, or background=./folder."""
    size: Annotated[int, Field(ge=SMALLEST_FRAME, le=256)] = 64
    """Height and width of the frames in pixels."""
    stack: Annotated[int, Field(ge=1, le=16)] = 3
    """Frames in an observation."""
    action_repeat: Positive | None = None
    """Frames each action is held for; unset: the task's customary value."""
    encoder: str | None = None
    """Start from this encoder: a file of pretraining, a run directory or a checkpoint."""
    encoder_mode: EncoderMode = "finetune"
    """What becomes of it: learns on, stays as it is, or learns on after training.encoder-warmup-updates."""
    envs: Positive = 1
    """Environments stepped side by side (more than one: in worker processes)."""

    @field_validator("imports")
    @classmethod
    def _one_module_each(cls, imports: tuple[str, ...]) -> tuple[str, ...]:
        names = (name.strip() for entry in imports for name in entry.split(","))
        return tuple(dict.fromkeys(name for name in names if name))


class Config(EnvironmentOptions):
    """A training run."""

    preset: str = "auto"
    """Named sets of options, joined by +: cpu, gpu, debug, auto (gpu where there is one), byol, ..."""
    frames: Positive = 100_000
    """Environment frames to train for (before action repeat)."""
    out: str | None = None
    """Run directory; default runs/<task>/<preset>/seed-<seed>. An existing run there is resumed."""
    obs: ObsName = "pixels"
    """What the agent sees: frames, the task's own observation vector (proprioception), or both."""
    from_run: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Start from this run (or checkpoint) of a task of the same domain: its model and its replay."""
    from_replay: CarriedReplay = "all"
    """What of its replay is carried over, with rewards of this task: all that finds room, or none."""
    world_model: WorldModelOptions = WorldModelOptions()
    """Latent dynamics, heads and the representation objective."""
    actor_critic: ActorCriticOptions = ActorCriticOptions()
    """Critic ensemble and policy."""
    planner: PlannerOptions = PlannerOptions()
    """Control."""
    mode: Literal["task", "explore"] = "task"
    """Learn the task, or explore without looking at its rewards."""
    curiosity: CuriosityOptions = CuriosityOptions()
    """The bonus for what is novel."""
    replay: ReplayOptions = ReplayOptions()
    """Experience in memory."""
    training: TrainingOptions = TrainingOptions()
    """Gradient steps and their schedule."""
    evaluation: EvaluationOptions = EvaluationOptions()
    """Evaluation during training."""
    logging: LoggingOptions = LoggingOptions()
    """What a run writes and how often."""

    @property
    def sees_pixels(self) -> bool:
        """Whether the agent looks at frames."""
        return "pixels" in self.obs

    @property
    def sees_proprio(self) -> bool:
        """Whether the agent looks at the task's own vector."""
        return "state" in self.obs

    @model_validator(mode="after")
    def _one_start_at_most(self) -> Config:
        if self.from_run is not None and self.encoder is not None:
            raise ValueError(
                "from and encoder both say what the agent starts from, and a run brings its own encoder: "
                "leave one of them out"
            )
        if self.from_run is None and self.from_replay != "all":
            raise ValueError(
                f"from_replay {self.from_replay} is for a run that starts from another one: "
                "give from, too, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _a_mode_has_its_encoder(self) -> Config:
        if self.encoder is None and self.from_run is None and self.encoder_mode != "finetune":
            raise ValueError(
                f"encoder_mode {self.encoder_mode} is for an agent that starts from an encoder: "
                "give encoder, too, or from, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _explorers_are_curious(self) -> Config:
        if self.mode == "explore" and self.curiosity.bonus == "none":
            raise ValueError(
                "mode explore learns from nothing but curiosity.bonus, which is none: "
                "choose contrastive, surprise, knn or disagreement"
            )
        return self

    @model_validator(mode="after")
    def _options_fit_together(self) -> Config:
        planner = self.planner
        if planner.min_std > planner.max_std:
            raise ValueError(f"planner.min_std {planner.min_std} exceeds planner.max_std {planner.max_std}")
        padding = self.world_model.encoder.shift_padding
        if padding > self.size // 4:
            raise ValueError(
                f"world_model.encoder.shift_padding {padding} exceeds a quarter of size {self.size}"
            )
        longest = self.world_model.horizon + max(self.stack, 2)
        if self.replay.capacity // self.envs < longest:
            raise ValueError(
                f"replay.capacity {self.replay.capacity} over {self.envs} environments is less than the "
                f"{longest} observations of one window: raise it, or lower world_model.horizon"
            )
        crop = self.world_model.encoder.crop
        if crop and not SMALLEST_FRAME <= crop <= self.size:
            raise ValueError(
                f"world_model.encoder.crop {crop} lies outside of {SMALLEST_FRAME} to size {self.size}"
            )
        return self

    @model_validator(mode="after")
    def _pixels_are_seen_where_they_matter(self) -> Config:
        needing = {
            "world_model.objective reconstruction": self.world_model.objective == "reconstruction",
            f"distract {self.distract}": self.distract != NO_DISTRACTORS,
        }
        chosen = [option for option, is_chosen in needing.items() if is_chosen]
        if chosen and not self.sees_pixels:
            raise ValueError(
                f"{' and '.join(chosen)} is about pixels, which nobody sees with obs {self.obs}: "
                "leave it out, or use obs pixels+state"
            )
        return self
