"""What chooses the actions of recorded episodes, and the text in which options and files name it."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator

from configs.names import offered_names

BEHAVIOURS = ("random", "smooth-random", "policy", "explore")
"""Uniform actions, the same correlated in time, a trained agent, and its explorer."""
AGENTS = frozenset({"policy", "explore"})
"""Those that need a trained agent."""


def parse_behaviours(text: str) -> dict[str, float]:
    """Read `random`, or a mixture as `random=0.5,policy=0.5`.

    Returns:
        Of each behaviour, in the order of `BEHAVIOURS`, how many episodes it has in proportion to others.

    Raises:
        ValueError: there is no such behaviour, one is given twice, or a share is no positive number.
    """
    found: dict[str, float] = {}
    parts = text.split(",")
    for part in parts:
        name, equals, share = (piece.strip() for piece in part.partition("="))
        if name not in BEHAVIOURS:
            raise ValueError(f"unknown behaviour {name!r}{offered_names(name, BEHAVIOURS)}")
        if name in found:
            raise ValueError(f"{name} is given twice: keep one of them")
        if not equals and len(parts) > 1:
            raise ValueError(f"{name} has no share: write for instance random=0.5,policy=0.5")
        found[name] = _positive(share, name) if equals else 1.0
    return {name: found[name] for name in BEHAVIOURS if name in found}


def _positive(text: str, name: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < math.inf:
        raise ValueError(f"the share of {name} must be a positive number, not {text!r}")
    return share


def describe_behaviours(shares: dict[str, float]) -> str:
    """The text form; one that stands alone needs no share."""
    if len(shares) == 1:
        return next(iter(shares))
    return ",".join(f"{name}={share!r}".removesuffix(".0") for name, share in shares.items())


BehaviourText = Annotated[str, AfterValidator(lambda text: describe_behaviours(parse_behaviours(text)))]
