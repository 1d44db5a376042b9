"""Planners by name. Adding one: a class beside this file, a line here, a name in `configs/control.py`."""

from __future__ import annotations

from agent.planners.base import Planner
from agent.planners.baselines import PolicyOnly, RandomShooting
from agent.planners.cem import CEM, ICEM
from agent.planners.mppi import MPPI

PLANNERS: dict[str, type[Planner]] = {
    "mppi": MPPI,
    "cem": CEM,
    "icem": ICEM,
    "random": RandomShooting,
    "policy": PolicyOnly,
}
