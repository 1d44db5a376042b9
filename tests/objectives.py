"""All that may be chosen about what the representation learns from, for tests that walk over it."""

from __future__ import annotations

from typing import Any, get_args

from configs.world_model import ObjectiveName

VARIATIONS: list[dict[str, Any]] = [
    {"positives": "near"},
    {"hardness": 0.5},
    {"decoupled": True},
    {"queue": 64},
    {"similarity": "bilinear"},
]
"""Options of the world model that change the objective `contrastive`."""

EVERY_OBJECTIVE: list[dict[str, Any]] = [
    *({"objective": name} for name in get_args(ObjectiveName)),
    *VARIATIONS,
]
"""Options of the world model for each objective and variation."""
