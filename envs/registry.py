"""Names of tasks, and the one place that turns a name into an environment.

Nothing here imports MuJoCo until an environment is built: names are checked while a command line is parsed.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from configs.distractors import NO_DISTRACTORS, DistractorOptions, split_background

if TYPE_CHECKING:
    import gymnasium as gym

SUITE: dict[str, tuple[str, ...]] = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": (
        "balance",
        "balance_sparse",
        "swingup",
        "swingup_sparse",
        "two_poles",
        "three_poles",
    ),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}
"""Tasks of the dm_control suite by domain, written out so that checking a name costs no import."""

COUNTING = "counting"
"""Name of the fake task of `envs.counting`."""

TASKS: tuple[str, ...] = tuple(f"dmc/{domain}-{task}" for domain, tasks in SUITE.items() for task in tasks)
"""Canonical names of all suite tasks."""

GYM_TASKS: tuple[str, ...] = (
    "gym/Ant-v5",
    "gym/HalfCheetah-v5",
    "gym/Hopper-v5",
    "gym/Humanoid-v5",
    "gym/InvertedDoublePendulum-v5",
    "gym/InvertedPendulum-v5",
    "gym/Pusher-v5",
    "gym/Reacher-v5",
    "gym/Swimmer-v5",
    "gym/Walker2d-v5",
)
"""Canonical names of Gymnasium's MuJoCo tasks; any other id that it knows is a task, too, as `gym/<id>`."""

SIDELESS: tuple[str, ...] = (
    "dmc/acrobot-",
    "dmc/ball_in_cup-",
    "dmc/cartpole-",
    "dmc/pendulum-",
    "dmc/point_mass-",
    "dmc/reacher-",
)
"""Beginnings of names of tasks whose mirrored frames show states of the same task, worth as much."""

_ACTION_REPEATS = {"cartpole": 8, "finger": 2, "walker": 2, "gym": 2, COUNTING: 1}
_OTHER_ACTION_REPEAT = 4


class TaskError(ValueError):
    """A task cannot be had; the message says why, and what can be done."""


class UnknownTaskError(TaskError):
    """No task has this name; the message offers near ones."""


def canonical_task(name: str, imports: Iterable[str] = ()) -> str:
    """The canonical name of a task, for instance `dmc/walker-walk` for `walker_walk`.

    Args:
        name: canonical name or alias: prefixes `dmc/`, `dmc_`, `dm_control/`, a version suffix `-v0`,
            letter case, and `-` for `_` make no difference. Gymnasium's MuJoCo tasks need their prefix
            (`gym/`, `gym_`, `gymnasium/`) or their version, its other ids both, exactly as registered.
        imports: modules that register ids with Gymnasium, imported before the name is looked up.

    Raises:
        UnknownTaskError: no such task.
        TaskError: a module cannot be imported.
    """
    import_modules(imports)
    task = _BY_KEY.get(_key(name)) or _GYM_BY_KEY.get(_gym_key(name)) or _registered(name)
    if task is None:
        raise UnknownTaskError(f"unknown task {name!r}: {_hint(name)}")
    return task


def import_modules(names: Iterable[str]) -> None:
    """Import modules that register environments with Gymnasium, once a rendering backend is chosen.

    Raises:
        TaskError: one cannot be imported.
    """
    for name in names:
        from envs.rendering import ensure_backend

        ensure_backend(needed=False)  # they may import MuJoCo, which reads the choice then
        try:
            importlib.import_module(name)
        except Exception as error:
            raise TaskError(
                f"cannot import {name} ({type(error).__name__}: {error}): "
                "install it, or name its folder in PYTHONPATH"
            ) from error


def default_action_repeat(task: str) -> int:
    """Customary frames per decision of a task (canonical name or alias)."""
    suite, _, name = canonical_task(task).partition("/")
    return _ACTION_REPEATS.get(name.partition("-")[0] if suite == "dmc" else suite, _OTHER_ACTION_REPEAT)


def has_sides(task: str) -> bool:
    """Whether the mirrored frames of a task, by its canonical name, would show another one.

    Tasks that are not written out here count as without sides: who brought them has to know.
    """
    return task in (*TASKS, *GYM_TASKS) and not task.startswith(SIDELESS)


def make_env(
    task: str,
    *,
    seed: int = 0,
    size: int = 64,
    look: str = "fast",
    distract: str = NO_DISTRACTORS,
    action_repeat: int | None = None,
    stack: int = 3,
    imports: Iterable[str] = (),
) -> gym.Env:
    """Build an environment.

    Args:
        task: canonical name or alias.
        seed: determines resets without a seed of their own, and samples of the action space. What a task
            draws when it is loaded (lqr: its springs) is the same for every seed: one name, one task.
        size: height and width of the frames in pixels; 0: nothing is drawn, and frames are of that size.
        look: `fast` or `original` rendering; environments that draw themselves have only one.
        distract: distractors, for instance `background=medium,camera=easy`; see `envs.distractors`.
        action_repeat: frames each decision is held for; `None` is the task's customary value.
        stack: frames in an observation.
        imports: modules that register the task with Gymnasium.

    Returns:
        Environment with observations uint8 (3 * stack, size, size), oldest frame first; actions float32
        (A,) in [-1, 1]; an attribute `env_spec`; and `info` with `physics` (float64 vector), `proprio` (the
        task's own observation vector, float32; empty where it has none) and `frames` (task steps that the
        decision took, 0 at reset).

    Raises:
        UnknownTaskError: no such task.
        TaskError: the task is none that can be learnt from pixels, or a module cannot be imported.
        RenderingUnavailableError: frames cannot be drawn on this machine.
        ValueError: there are no such distractors.
        DistractorError: the distractors cannot be had.
    """
    task = canonical_task(task, imports)
    distract = check_distractors(task, distract)
    repeat = default_action_repeat(task) if action_repeat is None else action_repeat
    if task == COUNTING:
        from envs.counting import CountingEnv

        return CountingEnv(seed=seed, size=size, look=look, action_repeat=repeat, stack=stack)

    from envs.rendering import ensure_backend

    ensure_backend(needed=needs_backend(task, size))
    suite, _, name = task.partition("/")
    # MuJoCo reads the choice of backend when it is imported, so these imports come after it.
    build: Callable[..., gym.Env]
    if suite == "gym":
        from envs.gym import GymEnv

        build = partial(GymEnv, name)
    else:
        from envs.dmc import DmcEnv

        build = partial(DmcEnv, *name.split("-", 1))
    return build(seed=seed, size=size, look=look, distract=distract, action_repeat=repeat, stack=stack)


def needs_backend(task: str, size: int) -> bool:
    """Whether OpenGL is needed for a task (canonical name) with frames of this size."""
    # At every reset, this one hands its terrain to OpenGL, whether or not it is drawn.
    return (size > 0 and task != COUNTING) or task == "dmc/quadruped-escape"


def check_distractors(task: str, text: str) -> str:
    """Find what is wrong with distractors before an environment is built, perhaps in another process.

    Args:
        task: canonical name.
        text: distractors.

    Returns:
        Their text form with every name resolved.

    Raises:
        ValueError: there are no such distractors.
        DistractorError: the task has no scene that they could change, or their folder cannot be used.
    """
    options = DistractorOptions.parse(text)
    if options != DistractorOptions():
        from envs.backgrounds import DistractorError, split_clips

        if task == COUNTING:
            raise DistractorError(f"{task} draws no scene to distract from: use --distract {NO_DISTRACTORS}")
        folder, _ = split_background(options.background) if options.background else (None, None)
        if folder:
            split_clips(folder)
    return str(options)


def _key(name: str) -> str:
    """What is left of a name when prefix, version, letter case and the choice of `-` or `_` are ignored."""
    key = re.sub(r"[\s_/-]+", "_", name.strip().lower())
    return re.sub(r"^(dmc|dm_control)_|_v\d+$", "", key)


def _gym_key(name: str) -> str:
    """Letters and digits of a name, in lower case: `gymnasium/half_cheetah-v5` -> `gymhalfcheetahv5`."""
    return re.sub(r"[\W_]+", "", name.lower()).replace("gymnasium", "gym", 1)


_BY_KEY = {_key(task): task for task in (*TASKS, COUNTING)}
_GYM_BY_KEY = {
    key: task
    for task in GYM_TASKS
    for key in (_gym_key(task), _gym_key(task).removeprefix("gym"), _gym_key(task).removesuffix("v5"))
}


def _registered(name: str) -> str | None:
    """`gym/<id>`, where that id is registered with Gymnasium."""
    identifier = _gym_id(name)
    if identifier is None:
        return None
    import gymnasium

    return f"gym/{identifier}" if identifier in gymnasium.registry else None


def _gym_id(name: str) -> str | None:
    """What follows `gym/` or `gymnasium/` in a name, None where nothing does."""
    suite, _, identifier = name.strip().partition("/")
    return identifier if identifier and suite.lower() in ("gym", "gymnasium") else None


def _hint(name: str) -> str:
    """What the user of an unknown name may have meant."""
    identifier = _gym_id(name)
    if identifier is not None:
        return _gym_hint(identifier)
    known = _BY_KEY | {_unversioned(task.removeprefix("gym/")): task for task in GYM_TASKS}
    near = difflib.get_close_matches(_key(name), known, n=3, cutoff=0.5)
    return _question(known[match] for match in near) or (
        "tasks are named like dmc/walker-walk (domain and task of the dm_control suite) "
        "or gym/Hopper-v5 (an id of Gymnasium)"
    )


def _gym_hint(identifier: str) -> str:
    import gymnasium

    known = {_unversioned(other): f"gym/{other}" for other in sorted(gymnasium.registry)}  # the newest stays
    near = difflib.get_close_matches(_unversioned(identifier), known, n=3)
    question = _question(known[match] for match in near) or "Gymnasium knows no such id."
    return f"{question} Ids of other packages need the module that registers them: --import MODULE"


def _question(tasks: Iterable[str]) -> str:
    names = " or ".join(tasks)
    return f"did you mean {names}?" if names else ""


def _unversioned(identifier: str) -> str:
    """`Walker2d-v5` -> `walker2d`."""
    return re.sub(r"-v\d+$", "", identifier.lower())
