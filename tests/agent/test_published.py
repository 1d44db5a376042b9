from __future__ import annotations

import pytest

from agent.evaluation.published import published_scores
from envs.registry import TASKS, default_action_repeat

# The DMControl-100k line: cartpole, reacher, cheetah, walker, finger, cup.
DMCONTROL_100K = {
    "CURL": (582, 538, 299, 403, 767, 769),
    "DrQ": (759, 601, 344, 612, 901, 913),
    "PlayVirtual": (816, 785, 474, 460, 915, 929),
    "TACO": (782, 821, 402, 601, 876, 902),
    "MLR": (806, 866, 482, 643, 907, 933),
    "ResAct": (819, 917, 503, 772, 974, 948),
}
SIX = ("cartpole-swingup", "reacher-easy", "cheetah-run", "walker-walk", "finger-spin", "ball_in_cup-catch")


@pytest.mark.parametrize(("column", "name"), list(enumerate(SIX)))
def test_dmcontrol_100k(column: int, name: str) -> None:
    task = f"dmc/{name}"
    assert task in TASKS
    scores = published_scores(task, 100_000)
    assert {score.method: score.return_mean for score in scores} == {
        method: row[column] for method, row in DMCONTROL_100K.items()
    }
    assert {(score.kind, score.benchmark) for score in scores} == {("evaluation", "DMControl-100k")}
    assert {score.action_repeat for score in scores} == {default_action_repeat(task)}
    assert all(score.source for score in scores)
    assert [score.return_mean for score in scores] == sorted(score.return_mean for score in scores)


def test_nothing_is_known_elsewhere() -> None:
    assert published_scores("dmc/dog-run") == []
    assert published_scores("dmc/walker-walk", 12_345) == []
