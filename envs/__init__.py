"""Where experience comes from: environments, rendering, and the on-disk episode store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import gymnasium as gym

__all__ = ["make_env"]


def make_env(
    task: str,
    *,
    seed: int = 0,
    size: int = 64,
    look: str = "fast",
    distract: str = "none",
    action_repeat: int | None = None,
    stack: int = 3,
    imports: Iterable[str] = (),
) -> gym.Env:
    """Build an environment by name; see `envs.registry.make_env`, which is imported only now."""
    from envs.registry import make_env as build

    return build(
        task,
        seed=seed,
        size=size,
        look=look,
        distract=distract,
        action_repeat=action_repeat,
        stack=stack,
        imports=imports,
    )
