"""Published figures of several tasks as figures of an aggregate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from agent.evaluation.comparison.aggregation import Scope
from agent.evaluation.published import PublishedScore


def means_over_tasks(scope: Scope, figures: Iterable[PublishedScore], last: float) -> list[PublishedScore]:
    """Mean over a scope's tasks, on its scale, of each method that has figures for all of them.

    What is published are means over runs that are not at hand, of which no IQM can be made.

    Args:
        scope: of several tasks.
        figures: of single tasks.
        last: frames beyond which nothing is shown.

    Returns:
        One figure for each method, protocol, kind of episodes and frames, ordered by frames, then mean; what
        may differ between tasks is left out.
    """
    tables: dict[tuple[str, str, str, int], dict[str, PublishedScore]] = defaultdict(dict)
    for figure in figures:
        if figure.task in scope.tasks and figure.frames <= last:
            key = figure.method, figure.benchmark, figure.kind, figure.frames
            tables[key][figure.task] = figure
    means = [
        replace(
            next(iter(table.values())),
            task=scope.name,
            return_mean=math.fsum(each.return_mean for each in table.values()) / len(table) / scope.scale,
            action_repeat=None,
            return_std=None,
            seeds=None,
        )
        for table in tables.values()
        if len(table) == len(scope.tasks)
    ]
    return sorted(means, key=lambda each: (each.frames, each.return_mean, each.method))
