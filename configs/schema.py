"""All options of a run: typed, frozen, validated where they are built.

Defaults live here and in the groups' own modules, and nowhere else; presets hold differences only. Every
option has one line of documentation, which is also its `--help` text. Options at the root have short flags
(`--task`), all others are dotted (`--world-model.objective`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from pydantic import Field, field_validator, model_validator

from configs.control import ActorCriticOptions, PlannerOptions
from configs.curiosity import CuriosityOptions
from configs.distractors import NO_DISTRACTORS, DistractorText
from configs.options import NonNegative, NonNegativeFloat, Options, Positive, PositiveFloat, Rate, Share
from configs.world_model import WorldModelOptions

SMALLEST_FRAME = 32  # pixels: the convolutions leave nothing of much smaller ones

ObsName = Literal["pixels", "state", "pixels+state"]
EncoderMode = Literal["finetune", "frozen", "warmup"]
CarriedReplay = Literal["all", "none"]


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
    """Rendering: fast (no shadows, reflections or multisampling; 10 to 20x faster on a CPU) or original."""
    distract: DistractorText = NO_DISTRACTORS
    """Distractors, for instance background=medium,camera=easy,colour=hard, or background=./folder:hard."""
    size: Annotated[int, Field(ge=SMALLEST_FRAME, le=256)] = 64
    """Height and width of the frames in pixels."""
    stack: Annotated[int, Field(ge=1, le=16)] = 3
    """Frames in an observation."""
    action_repeat: Positive | None = None
    """Frames each action is held for; unset: the task's customary value."""
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
    encoder: str | None = None
    """Start from this encoder: a file of pretraining, a run directory or a checkpoint."""
    encoder_mode: EncoderMode = "finetune"
    """What becomes of it: learns on, stays as it is, or learns on after training.encoder-warmup-updates."""
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
        if self.curiosity.bonus != "none" and not (self.curiosity.weight or self.curiosity.final_weight):
            raise ValueError("curiosity.weight and curiosity.final_weight are 0: the bonus is never sought")
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
