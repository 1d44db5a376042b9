from __future__ import annotations

import re
import statistics
from importlib import resources

import pytest
import yaml

from agent.evaluation.published import (
    PublishedScore,
    parse_published,
    published_benchmarks,
    published_scores,
)
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
FRAMES = (100_000, 250_000, 500_000, 1_000_000)


FILE = resources.files("agent.evaluation").joinpath("published.yaml")


def every_score() -> list[PublishedScore]:
    return [score for task in TASKS for score in published_scores(task, benchmark=None)]


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
    assert published_scores("dmc/lqr-lqr_2_1") == []
    assert published_scores("dmc/walker-walk", 12_345) == []
    assert published_scores("dmc/lqr-lqr_2_1", benchmark=None) == []


@pytest.mark.parametrize(
    ("benchmark", "method", "name", "curve"),
    [
        ("DMControl", "DrQ", "cartpole-swingup", (777, 863, 869, 861)),
        ("DMControl", "DrQ", "ball_in_cup-catch", (912, 963, 964, 963)),
        ("DMC vision", "CURL", "reacher-easy", (297, 431, 541, 705)),
        ("DMC vision", "DrQ-v2", "finger-spin", (325, 587, 789, 860)),
        ("DMC vision", "DreamerV3", "walker-walk", (639, 898, 944, 962)),
        ("DMC vision", "TD-MPC2", "cheetah-run", (286, 390, 455, 537)),
        ("DMC vision", "MR.Q", "cartpole-swingup", (477, 828, 845, 868)),
        ("DMC vision", "MR.Q", "dog-stand", (81, 111, 147, 216)),
        ("DMC vision", "DreamerPro", "reacher-easy", (453, 746, 938, 873)),
    ],
)
def test_long_curves(benchmark: str, method: str, name: str, curve: tuple[int, ...]) -> None:
    scores = [s for s in published_scores(f"dmc/{name}", benchmark=benchmark) if s.method == method]
    assert {score.frames: score.return_mean for score in scores} == dict(zip(FRAMES, curve, strict=True))
    assert all(score.data and score.seeds in range(3, 11) and score.return_std for score in scores)
    expected = "training" if method.startswith("Dreamer") else "evaluation"
    assert {score.kind for score in scores} == {expected}


@pytest.mark.parametrize(
    ("method", "means"),
    [
        ("CURL", {100_000: 349, 500_000: 466, 1_000_000: 530}),
        ("DrQ-v2", {100_000: 268, 500_000: 571, 1_000_000: 705}),
        ("DreamerV3", {100_000: 395, 500_000: 670, 1_000_000: 782}),
        ("MR.Q", {100_000: 358, 500_000: 749, 1_000_000: 818}),
    ],
)
def test_means_over_the_twenty_vision_tasks(method: str, means: dict[int, int]) -> None:
    """They were computed elsewhere, from unrounded returns."""
    more = re.compile("dmc/(dog|fish|humanoid)-")  # published from pixels, but none of the twenty
    scores = [s for s in every_score() if s.benchmark == "DMC vision" and s.method == method]
    scores = [score for score in scores if not more.match(score.task)]
    for frames, mean in means.items():
        returns = [score.return_mean for score in scores if score.frames == frames]
        assert len(returns) == 20
        assert statistics.fmean(returns) == pytest.approx(mean, abs=1)


def test_a_method_stands_in_each_benchmark_once() -> None:
    assert published_benchmarks() == ("DMControl-100k", "DMControl-500k", "DMControl", "DMC vision")
    scores = every_score()
    keys = [(score.benchmark, score.method, score.task, score.frames) for score in scores]
    assert len(set(keys)) == len(keys)
    assert len(keys) == len(parse_published(FILE.read_text(encoding="utf-8"))), "no task is misspelt"
    scores = published_scores("dmc/cartpole-swingup", 500_000, benchmark=None)
    curl = {s.benchmark: (s.return_mean, s.action_repeat) for s in scores if s.method == "CURL"}
    assert curl == {"DMControl-500k": (841, 8), "DMC vision": (802, 2)}


def test_every_figure_says_where_it_is_from() -> None:
    for score in every_score():
        assert re.search(r"\w+ et al\. 20\d\d, ", score.source), score
        assert 0 <= score.return_mean <= 1000, score
        assert (score.data is None) == (score.seeds is None) == (score.return_std is None), score


TABLE = {
    "benchmark": "B",
    "frames": [10, 20],
    "kind": "evaluation",
    "action_repeat": None,
    "methods": [{"method": "M", "source": "S", "returns": {"t": {"mean": [1, 2], "seeds": [3, 4]}}}],
}


def test_a_table_is_read_row_by_row() -> None:
    first, second = parse_published(yaml.safe_dump([TABLE]))
    assert (first.frames, first.return_mean, first.seeds, first.return_std) == (10, 1, 3, None)
    assert (second.frames, second.return_mean, second.seeds, second.action_repeat) == (20, 2, 4, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": 10}, "frame"),
        ({"frames": [10]}, r"M, t: expected 1 numbers, found \[2, 2\]"),
        ({"kind": "test"}, "evaluation"),
        ({"action_repeat": {"other": 2}}, "M, t: action_repeat"),
        ({"methods": [{"method": "M", "source": "", "returns": {"t": 1}}], "frames": [10]}, "source"),
        ({"methods": [{"method": "M", "source": "S", "note": "", "returns": {}}]}, "note"),
        ({"methods": [{"method": "M", "source": "S", "returns": {"t": {"mean": [1, 2], "sd": 1}}}]}, "sd"),
        (
            {"methods": [{"method": "M", "source": "S", "returns": {"t": 1}}]},
            r"expected 2 numbers, found \[1\]",
        ),
    ],
)
def test_what_does_not_belong_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_published(yaml.safe_dump([TABLE | change]))
