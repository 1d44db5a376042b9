"""What several commands build from options: the device and the environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

from configs.load import ConfigError
from configs.schema import Config, EnvironmentOptions, TrainingOptions

if TYPE_CHECKING:
    import torch

    from envs.recording import Episode
    from envs.rendering import Backend
    from envs.spec import EnvSpec, Pool

EPISODES_SIDE_BY_SIDE = 10


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to compute on; `auto` is the GPU where there is one.

    Raises:
        ConfigError: CUDA is asked for where there is none.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError("torch finds no GPU here: use --device cpu, or install a CUDA build of torch")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def configure_torch(options: TrainingOptions) -> None:
    """Apply the settings that belong to the whole process."""
    import torch

    configure_threads(options.threads)
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)


def configure_threads(threads: int) -> None:
    """Use so many threads on the CPU; 0 leaves it to torch."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def choose_backend(*, needed: bool) -> Backend | None:
    """The rendering backend of this process; call before MuJoCo is imported, which reads the choice.

    Returns:
        None where none works.

    Raises:
        RenderingUnavailableError: likewise, and one is needed.
    """
    from envs.rendering import select_backend, try_backend

    return select_backend() if needed else try_backend()


def make_evaluation_pool(config: Config, episodes: int, *, pictures: bool = False) -> Pool:
    """Environments for evaluation, in this process, side by side so that their plans are one batch."""
    return make_task_pool(config, min(episodes, EPISODES_SIDE_BY_SIDE), in_process=True, pictures=pictures)


def make_task_pool(
    config: Config, count: int, *, in_process: bool | None = None, pictures: bool = False
) -> Pool:
    """Environments of the configured task; call after the rendering backend is chosen.

    Episodes of training and evaluation have seeds of their own (`agent.seeding`).

    Args:
        config: what the agent sees is drawn, and nothing else.
        count: how many.
        in_process: see `envs.vector.make_pool`.
        pictures: draw frames for people, too, where the agent sees none.
    """
    size = config.size if config.sees_pixels or pictures else 0
    return make_environments(config, count, size=size, in_process=in_process)


def make_environments(
    options: EnvironmentOptions, count: int, *, size: int, in_process: bool | None = None
) -> Pool:
    """As `make_task_pool`, with frames of `size` pixels; 0: nothing is drawn."""
    from envs.vector import make_pool

    return make_pool(
        options.task,
        count=count,
        seed=options.seed,
        size=size,
        stack=options.stack,
        look=options.look,
        distract=options.distract,
        action_repeat=options.action_repeat,
        imports=options.imports,
        in_process=in_process,
    )


@contextmanager
def relabelling(options: EnvironmentOptions, action_repeat: int) -> Iterator[Callable[[Episode], Episode]]:
    """What gives recorded episodes the rewards of the configured task, in an environment of its own.

    Raises:
        RelabellingError: nothing can.
    """
    from envs import make_env
    from envs.relabelling import check_relabelling, relabel

    check_relabelling(options.task)
    env = make_env(
        options.task, seed=options.seed, size=0, action_repeat=action_repeat, imports=options.imports
    )
    with closing(env):
        yield partial(relabel, env=env)


def check_task(config: Config, env_spec: EnvSpec) -> None:
    """Find what a task lacks that a configuration asks for.

    Raises:
        ConfigError: it lacks something.
    """
    horizon = config.world_model.horizon
    if horizon > env_spec.episode_steps:
        raise ConfigError(
            f"world_model.horizon {horizon} is longer than an episode of "
            f"{config.task}, {env_spec.episode_steps} decisions: lower it, or --action-repeat"
        )
    if env_spec.proprio_dim:
        return
    if config.sees_proprio:
        raise ConfigError(f"{config.task} has no observation vector for obs {config.obs}: use --obs pixels")
    if config.world_model.objective == "supervised":
        raise ConfigError(
            f"{config.task} has no observation vector, the label of the objective supervised: "
            "choose another --world-model.objective"
        )
