"""Planners by name. Adding one: a class in `agent/planners/`, a line here, a name in the schema."""

from __future__ import annotations

from agent.planners.base import Plan, Planner, PlanningModel, rollout
from agent.planners.baselines import PolicyOnly, RandomShooting
from agent.planners.cem import CEM, ICEM
from agent.planners.mppi import MPPI

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "PLANNERS",
    "Plan",
    "Planner",
    "PlanningModel",
    "PolicyOnly",
    "RandomShooting",
    "rollout",
]

PLANNERS: dict[str, type[Planner]] = {
    "mppi": MPPI,
    "cem": CEM,
    "icem": ICEM,
    "random": RandomShooting,
    "policy": PolicyOnly,
}
