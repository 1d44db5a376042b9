"""Names of tasks, and the one place that turns a name into an environment.

Nothing here imports MuJoCo until an environment is built: names are checked while a command line is parsed.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from configs.schema import NO_DISTRACTORS, DistractorOptions

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

_ACTION_REPEATS = {"cartpole": 8, "finger": 2, "walker": 2, COUNTING: 1}
_OTHER_ACTION_REPEAT = 4


class UnknownTaskError(ValueError):
    """No task has this name; the message offers near ones."""


def canonical_task(name: str) -> str:
    """The canonical name of a task, for instance `dmc/walker-walk` for `walker_walk`.

    Args:
        name: canonical name or alias: prefixes `dmc/`, `dmc_`, `dm_control/`, a version suffix `-v0`,
            letter case, and `-` for `_` make no difference.

    Raises:
        UnknownTaskError: no such task.
    """
    key = _key(name)
    try:
        return _BY_KEY[key]
    except KeyError:
        near = difflib.get_close_matches(key, _BY_KEY, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(_BY_KEY[match] for match in near)}?" if near else ""
        hint = hint or "tasks are named like dmc/walker-walk (domain and task of the dm_control suite)"
        raise UnknownTaskError(f"unknown task {name!r}: {hint}") from None


def default_action_repeat(task: str) -> int:
    """Customary frames per decision of a task (canonical name or alias)."""
    return _ACTION_REPEATS.get(_domain_and_task(task)[0], _OTHER_ACTION_REPEAT)


def make_env(
    task: str,
    *,
    seed: int = 0,
    size: int = 64,
    look: str = "fast",
    distract: str = NO_DISTRACTORS,
    action_repeat: int | None = None,
    stack: int = 3,
) -> gym.Env:
    """Build an environment.

    Args:
        task: canonical name or alias.
        seed: determines resets without a seed of their own, and samples of the action space. What a task
            draws when it is loaded (lqr: its springs) is the same for every seed: one name, one task.
        size: height and width of the frames in pixels.
        look: `fast` or `original` rendering.
        distract: distractors, for instance `background=medium,camera=easy`; see `envs.distractors`.
        action_repeat: frames each decision is held for; `None` is the task's customary value.
        stack: frames in an observation.

    Returns:
        Environment with observations uint8 (3 * stack, size, size), oldest frame first; actions float32
        (A,) in [-1, 1]; an attribute `env_spec`; and `info` with `physics` (float64 vector) and
        `frames` (task steps that the decision took, 0 at reset).

    Raises:
        UnknownTaskError: no such task.
        RenderingUnavailableError: frames cannot be drawn on this machine.
        ValueError: there are no such distractors.
        DistractorError: the distractors cannot be had.
    """
    task = canonical_task(task)
    distract = check_distractors(task, distract)
    repeat = default_action_repeat(task) if action_repeat is None else action_repeat
    if task == COUNTING:
        from envs.counting import CountingEnv

        return CountingEnv(seed=seed, size=size, look=look, action_repeat=repeat, stack=stack)

    from envs.rendering import ensure_backend

    ensure_backend()
    # MuJoCo reads the choice of backend when it is imported, so this import comes after it.
    from envs.dmc import DmcEnv

    domain, name = _domain_and_task(task)
    return DmcEnv(
        domain,
        name,
        seed=seed,
        size=size,
        look=look,
        distract=distract,
        action_repeat=repeat,
        stack=stack,
    )


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
        if options.folder:
            split_clips(options.folder)
    return str(options)


def _key(name: str) -> str:
    """What is left of a name when prefix, version, letter case and the choice of `-` or `_` are ignored."""
    key = re.sub(r"[\s_/-]+", "_", name.strip().lower())
    return re.sub(r"^(dmc|dm_control)_|_v\d+$", "", key)


_BY_KEY = {_key(task): task for task in (*TASKS, COUNTING)}


def _domain_and_task(task: str) -> tuple[str, str]:
    """`dmc/walker-walk` -> (`walker`, `walk`)."""
    domain, _, name = canonical_task(task).removeprefix("dmc/").partition("-")
    return domain, name
