"""Planners, one family a file, chosen by name in `agent.planners.registry`."""
