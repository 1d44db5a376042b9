from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from agent.evaluation.comparison.as_text import comparison_tables, completeness_table, score_tables
from agent.evaluation.comparison.curve_intervals import Estimation
from agent.evaluation.comparison.exports import crossings_csv, points_csv, summary
from agent.evaluation.comparison.figure_files import draw_charts
from agent.evaluation.comparison.report import PAGE_BYTES, make_page
from agent.evaluation.comparison.run_media import INSPECTED, imaginations, novelties, uninspected, videos
from agent.evaluation.comparison.study import Question, Study, make_study, unusable
from agent.evaluation.comparison.svg import inlined
from agent.evaluation.comparison.time_shares import time_shares
from tests.runs import collected, noted, write_run

FAST = Question(estimation=Estimation(resamples=50))
TASKS = ("dmc/cartpole-swingup", "dmc/walker-walk")
HOSTILE = "<script>alert(\"1\")</script> $\\frac{ & 'x' _"
VOID = {"meta", "img", "path", "use", "rect", "br"}


def study_of(*paths: Path, question: Question = FAST, **options: object) -> Study:
    study = make_study(collected(*paths, **options), question)  # type: ignore[arg-type]
    assert study is not None
    return study


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two tasks, two variants, four seeds; one run ended early, and one variant has no fourth seed."""
    for task in TASKS:
        for preset, gain in (("cpu", 20), ("gpu", 25)):
            for seed in (1, 2, 3, 4)[: 4 if preset == "cpu" else 3]:
                ended = (task, preset, seed) == (TASKS[0], "cpu", 1)
                frames = (10_000, 20_000) if ended else (10_000, 20_000, 30_000)
                returns = {at: gain * seed + at / 100 for at in frames}
                write_run(
                    tmp_path / "runs" / task / preset / f"{seed}",
                    returns,
                    task=task,
                    preset=preset,
                    seed=seed,
                )
    return tmp_path / "runs"


def files_of(study: Study, directory: Path) -> dict[str, bytes]:
    page = make_page(study, draw_charts(study, directory))
    numbers = json.dumps(summary(study, {}), allow_nan=False)
    drawn = {path.name: path.read_bytes() for path in directory.iterdir()}
    return drawn | {"page": page.html.encode(), "json": numbers.encode(), "csv": points_csv(study).encode()}


def test_order_and_place_of_the_input_make_no_difference(suite: Path, tmp_path: Path) -> None:
    runs = sorted(path.parent for path in suite.rglob("config.yaml"))
    first = files_of(study_of(*runs), tmp_path / "one")
    moved = suite.rename(tmp_path / "moved-runs")
    shuffled = [runs[index] for index in np.random.default_rng(1).permutation(len(runs))]
    again = study_of(*(moved / run.relative_to(suite) for run in shuffled))
    assert files_of(again, tmp_path / "two") == first
    assert len([name for name in first if name.endswith(".svg")]) == len(first) // 2 - 1
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_places_are_customary_ones_that_half_of_the_runs_reach(tmp_path: Path) -> None:
    for seed, last in enumerate((90_000, 260_000, 260_000)):
        write_run(tmp_path / f"{seed}", {10_000: 1.0, last: 2.0}, seed=seed)
    assert study_of(tmp_path).question.at == (100_000, 250_000)
    assert study_of(tmp_path / "0").question.at == (90_000,)
    assert study_of(tmp_path, question=Question(axis="seconds")).question.at == (2600,)
    study = study_of(tmp_path, question=Question(at=(80_000.0, 1e9)))
    assert list(study.findings[0].cards) == [80_000]
    assert "no run goes so far" in score_tables(study)


def test_an_aggregate_is_asked_where_it_ends_if_it_ends_before(tmp_path: Path) -> None:
    for index, (task, last) in enumerate([(TASKS[0], 120_000), (TASKS[1], 30_000), ("dmc/x-y", 120_000)]):
        write_run(tmp_path / f"{index}", {10_000: 1.0, last: 2.0}, task=task)
    assert study_of(tmp_path).question.at == (30_000, 100_000)


def test_runs_without_the_axis_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "walker-walk.csv").write_text("frames,reward\n10,1\n20,2\n")
    question = Question(axis="updates", estimation=Estimation(resamples=50))
    both = [tmp_path / "run", tmp_path / "walker-walk.csv"]
    assert "walker-walk.csv: does not record its updates: left out" in noted(
        study_of(*both, question=question)
    )
    assert make_study(collected(both[1]), question) is None
    assert "does not record its updates" in str(unusable(collected(both[1]), question)[-1])


def test_smoothing_changes_what_is_drawn_and_no_number(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {10_000: 100.0, 20_000: 300.0, 30_000: 800.0})
    plain, smooth = (study_of(tmp_path, question=Question(smooth=width)).findings[0] for width in (1, 2))
    np.testing.assert_allclose(plain.bands["cpu"].value, [100, 300, 800])
    np.testing.assert_allclose(smooth.bands["cpu"].value, [100, 200, 550])
    assert smooth.cards[30_000][0].numbers == plain.cards[30_000][0].numbers


def test_few_seeds_and_runs_that_ended_are_remarked(suite: Path) -> None:
    notes = noted(study_of(suite))
    assert any(note.startswith("few seeds: 3 seeds or fewer of gpu: ") for note in notes)
    assert any(note.startswith("frames 30,000: 1 of 14 runs end before") for note in notes)


def test_tables_as_text(suite: Path) -> None:
    study = study_of(suite)
    lines = completeness_table(study).splitlines()
    assert lines[2].split() == [TASKS[0], "cpu", "20k", "short", "30k", "30k", "30k"]
    assert lines[3].split() == [TASKS[0], "gpu", "30k", "30k", "30k"]
    table = score_tables(study)
    assert "2 tasks" in table
    assert "3 of 4" in table


def test_comparisons_and_thresholds_as_text(tmp_path: Path) -> None:
    long = "a variant of which there is very much to say, which is {}"
    for task in TASKS:
        for variant, gain in (("better", 30), ("worse", 20)):
            for seed in (1, 2, 3):
                returns = {at: gain * seed + at / 100 for at in (10_000, 20_000, 30_000)}
                run = tmp_path / "runs" / task / variant / f"{seed}"
                write_run(run, returns, task=task, preset=long.format(variant), seed=seed)
    question = Question(thresholds=(150.0, 250.0, 380.0, 1e6), estimation=Estimation(resamples=50))
    study = study_of(tmp_path, question=question)
    text = comparison_tables(study)
    assert max(map(len, text.splitlines())) <= 110
    over_tasks, pairs, first, second = text.split("\n\n")
    assert over_tasks.splitlines()[0] == "2 tasks at 30,000 frames: over tasks"
    card = study.findings[0].cards[30_000][0]
    assert f"{card.numbers['median'].value:.3f}" == "0.360"
    numbers = over_tasks.splitlines()[3].split("\N{HORIZONTAL ELLIPSIS}")[1].split()
    assert (numbers[0], numbers[3]) == ("0.360", "0.640")
    assert numbers[1] == f"[{card.numbers['median'].low:.3f},"
    (pair,) = study.findings[0].comparisons[30_000]
    row = pairs.splitlines()[3].split("\N{HORIZONTAL ELLIPSIS}")[2].split()
    # of nine pairs of runs, six won and one tied: 60 with 60
    assert (row[0], row[1]) == ("0.72", f"[{pair.improvement.low:.2f},")
    assert row[-1] == "3"
    assert "0.020" in row
    assert first.splitlines()[0] == "frames to a return, median (runs that ended without it)"
    assert first.splitlines()[1].split() == ["task", "variant", "150", "250", "380"]
    row = first.splitlines()[3].split("\N{HORIZONTAL ELLIPSIS}")[1].split()
    assert row == ["10k", "20k", "not", "(2", "of", "3)"]
    assert second.splitlines()[1].split() == ["task", "variant", "1e+06"]
    assert "not (3 of 3)" in second
    alone = study_of(tmp_path / "runs" / TASKS[0] / "worse", question=Question(thresholds=()))
    assert comparison_tables(alone) == ""


def test_a_median_is_of_several_tasks(suite: Path, tmp_path: Path) -> None:
    study = study_of(suite / TASKS[0])
    header = '<th scope="col">IQM</th><th scope="col">mean</th>\n'
    page = make_page(study, []).html
    assert f'{header}<th scope="col">area under curve</th>' in page
    aggregated = make_page(study_of(suite), []).html
    assert f'{header}<th scope="col">median</th><th scope="col">optimality gap</th>' in aggregated


def test_numbers_as_files(suite: Path) -> None:
    study = study_of(suite)
    rows = list(csv.DictReader(points_csv(study).splitlines()))
    runs = [row for row in rows if row["seed"] and row["scope"] != "aggregate"]
    assert len(runs) == 14 * 3 - 1
    seeds = [
        (row["variant"], row["seed"], row["at"], float(row["value"]))
        for row in rows
        if row["seed"] and row["scope"] == "aggregate" and row["axis"] == "frames" and row["seed"] in "12"
    ]
    # seed 1 of cpu ended early in one task; of two tasks the middle half is their mean
    assert seeds[:3] == [
        ("cpu", "1", "10000", 0.12),
        ("cpu", "1", "20000", 0.22),
        ("cpu", "2", "10000", 0.14),
    ]
    bands = [
        row
        for row in rows
        if (row["scope"], row["variant"], row["seed"], row["axis"]) == ("aggregate", "cpu", "", "frames")
    ]
    assert [(row["at"], row["runs"]) for row in bands] == [("10000", "4"), ("20000", "4"), ("30000", "3")]
    found = summary(study, {"more": 1})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["more"] == 1
    cells = [cell for row in found["coverage"] for cell in row["cells"]]
    assert sum(cell["status"] == "short" for cell in cells) == 1
    card = found["scopes"][0]["scores"][-1]["variants"][0]
    assert card["seeds"] == [2, 3, 4]
    assert card["numbers"]["mean"]["value"] == pytest.approx(0.36)
    reached = found["scopes"][1]["reached"][0]
    assert reached["median"] is None, "nobody reaches 500"
    assert reached["crossings"][:2] == [
        {"seed": 1, "at": None, "end": 20_000},
        {"seed": 2, "at": None, "end": 30_000},
    ]
    assert {"median", "optimality_gap"} < card["numbers"].keys()
    alone = found["scopes"][1]["scores"][-1]["variants"][0]
    assert alone["numbers"].keys() == {"iqm", "mean"}
    low = study_of(suite, question=Question(thresholds=(150.0,), estimation=FAST.estimation))
    crossings = list(csv.DictReader(crossings_csv(low).splitlines()))
    assert len(crossings) == 14
    assert [(row["seed"], row["reached"], row["end"]) for row in crossings[:2]] == [
        ("1", "20000", "20000"),
        ("2", "20000", "30000"),
    ]


class Checker(HTMLParser):
    """Collects elements and what they point to, and sees that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.identifiers: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.links += [
            str(values[name]) for name in ("href", "src", "xlink:href", "srcset") if name in values
        ]
        self.identifiers += [str(values["id"])] if "id" in values else []
        self.images += [values] if tag == "img" or values.get("role") == "img" else []
        assert not any(name.startswith("on") for name in values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()


def check(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert len(set(checker.identifiers)) == len(checker.identifiers)
    for link in checker.links:
        assert link.startswith(("#", "data:image/")), link
        assert not link.startswith("#") or link[1:] in checker.identifiers
    assert "url(http" not in html
    assert "@import" not in html
    assert not {"script", "iframe", "link", "object", "base"} & checker.tags
    assert all(image.get("alt") or image.get("aria-label") for image in checker.images)
    return checker


def test_the_page_needs_nothing_beside_it(suite: Path, tmp_path: Path) -> None:
    study = study_of(suite)
    html = make_page(study, draw_charts(study, tmp_path / "figures")).html
    checker = check(html)
    assert len(checker.images) == 3 + 3 + 1 + 1 + 1  # curves, time, bars, profile, improvement
    for text in ("Coverage", "short of 30k", "Sample efficiency", "probability", "optimality gap"):
        assert text in html
    assert "&#34;mujoco&#34;: &#34;3.17.0&#34;" in html
    assert "--allow-mixed" not in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"r{seed}", seed=seed, preset=HOSTILE, task=f"dmc/{HOSTILE}")
    (tmp_path / "r1" / "manifest.json").write_text(json.dumps({"note": HOSTILE, "action_repeat": 2}))
    study = study_of(tmp_path)
    drawn = draw_charts(study, tmp_path / "figures")
    page = make_page(study, drawn).html
    check(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert all(path.parent == tmp_path / "figures" for path in (tmp_path / "figures").rglob("*"))


def test_the_page_says_that_mixed_runs_are_pooled(tmp_path: Path) -> None:
    write_run(tmp_path / "1", seed=1)
    write_run(tmp_path / "2", seed=2, look="original")
    assert make_study(collected(tmp_path), FAST) is None
    study = study_of(tmp_path, question=Question(allow_mixed=True))
    html = make_page(study, draw_charts(study, tmp_path / "figures")).html
    assert "Mixed runs may be pooled" in html
    assert "mixed look (fast: seed 1; original: seed 2): pooled all the same" in html


def write_media(run: Path) -> None:
    (run / "videos").mkdir()
    first, *rest = (Image.new("RGB", (192, 208), (2 * index, 100, 0)) for index in range(100))
    for name in ("frames-000010000.gif", "frames-000020000.gif"):
        first.save(run / "videos" / name, save_all=True, append_images=rest, duration=40)
    (run / "inspect").mkdir()
    for name in ("imagination", "bonus", "novelty"):
        first.resize((1200, 300)).save(run / "inspect" / f"{name}.png")
    (run / "inspect" / INSPECTED).write_text('{"frames": 20000, "episode": 7}')


def test_videos_and_strips_are_small_copies_within_a_budget(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = write_run(tmp_path / f"{seed}", seed=seed)
        write_media(run)
    curves = collected(tmp_path).curves
    (video,), notes = videos(curves, 10**9)
    assert notes == []
    assert video.caption == "dmc/walker-walk, cpu, seed 1, 20,000 frames"
    (tmp_path / "small.gif").write_bytes(video.content)
    with Image.open(tmp_path / "small.gif") as gif:
        durations = [image.info["duration"] for image in ImageSequence.Iterator(gif)]
        assert (gif.width, sum(durations)) == (160, 34 * 120), "every third image, three times as long"
        assert 10 < len(durations) <= 34
    (strip,), _ = imaginations(curves, 10**9)
    assert strip.kind == "png"
    (bonus, novel), _ = novelties(curves, 2 * len(strip.content))
    assert bonus.caption == strip.caption == f"{novel.caption}, episode 7"
    assert novel.caption == "dmc/walker-walk, cpu, seed 1, 20,000 frames"
    (only,), (note,) = novelties(curves, 2 * len(strip.content) - 1)
    assert (only, "1 left out" in str(note)) == (bonus, True)
    nothing, (note,) = videos(curves, len(video.content) - 1)
    assert nothing == []
    assert str(note) == "videos: 1 left out to keep the page small"
    (tmp_path / "1" / "inspect" / INSPECTED).write_text('{"frames": [1]}')
    (undated,), _ = imaginations(curves, 10**9)
    assert undated.caption == "dmc/walker-walk, cpu, seed 1, frames not recorded"
    study = study_of(tmp_path)
    page = make_page(study, draw_charts(study, tmp_path / "figures"))
    assert page.captions["videos"] == [video.caption]
    assert page.html.count('alt="Bonus and novel frames') == 2
    assert page.html.count("data:image/gif;base64,") == 1
    assert len(page.html.encode()) < PAGE_BYTES
    check(page.html)


def write_agent(run: Path) -> None:
    for part in ("checkpoints/checkpoint-000010000.safetensors", "episodes/store.json"):
        (run / part).parent.mkdir()
        (run / part).touch()


def test_what_has_not_been_inspected_is_remarked(tmp_path: Path) -> None:
    for preset in ("cpu", "gpu", "bare"):
        for seed in (1, 2, 3):
            run = write_run(tmp_path / preset / f"{seed}", seed=seed, preset=preset)
            if preset != "bare" and seed > 1:
                write_agent(run)
    curves = collected(tmp_path).curves
    assert [each.source.split("/")[-2:] for each in uninspected(curves)] == [["cpu", "2"], ["gpu", "2"]]
    _, (note,) = imaginations(curves, 10**9)
    assert "of what dmc/walker-walk, cpu; dmc/walker-walk, gpu imagine: --inspect" in str(note)
    assert f"`nearfar inspect RUN` for any run (the first is {tmp_path.name}/cpu/2)" in str(note)
    assert not note.is_loss
    for name, left in (("cpu/3", ["gpu"]), ("gpu/1", [])):
        (tmp_path / name / "inspect").mkdir()
        Image.new("RGB", (40, 10)).save(tmp_path / name / "inspect" / "imagination.png")
        assert [each.variant for each in uninspected(curves)] == left
    assert imaginations(curves, 10**9)[1] == []


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "videos").mkdir()
    (run / "videos" / "frames-000010000.gif").write_bytes(b"GIF89a nonsense")
    found, (note,) = videos(collected(run).curves, 10**9)
    assert found == []
    assert str(note) == "run/frames-000010000.gif: is no picture: left out"


def test_shares_of_time_come_from_the_lines_that_are_whole(tmp_path: Path) -> None:
    for seed, share in ((1, 0.8), (2, 0.6)):
        run = write_run(tmp_path / f"{seed}", seed=seed)
        records = [{"time/update_share": share + step, "time/acting_share": 0.1} for step in (-0.1, 0.1)]
        lines = [
            *map(json.dumps, [*records, {"eval/return_mean": 3}]),
            "[1]",
            '{"time/update_share": "x"}',
            '{"ti',
        ]
        (run / "metrics.jsonl").write_text("\n".join(lines))
    (shares,), notes = time_shares(collected(tmp_path).curves)
    assert (shares.runs, list(shares.shares)) == (2, ["update", "acting"])
    assert shares.shares == pytest.approx({"update": 0.7, "acting": 0.1})
    assert [note.text for note in notes] == ["3 damaged lines left out"] * 2
    assert (shares.devices, shares.is_on_gpu) == ((), False)


@pytest.mark.parametrize(
    ("manifest", "is_remarked"),
    [
        ({"device": "cpu"}, False),
        ({"device": "cuda"}, True),
        ({"device": "cpu", "earlier": [{"device": "cuda:1"}]}, True),
        ({"device": ["cuda"], "earlier": "cuda"}, False),
    ],
)
def test_shares_of_time_on_a_gpu_are_remarked(
    tmp_path: Path, manifest: dict[str, object], is_remarked: bool
) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"time/update_share": 0.8}\n')
    (run / "manifest.json").write_text(json.dumps(manifest))
    page = make_page(study_of(tmp_path), []).html
    check(page)
    assert "Where the time goes" in page
    assert ("kernels go on running" in page) == is_remarked
    assert ("dmc/walker-walk, cpu: c" in page) == is_remarked


def test_pictures_inside_a_page_share_nothing() -> None:
    svg = (
        '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="1pt" viewBox="0 0 10 20">'
        '<metadata>http://x</metadata><style>*{}</style><!-- id="a" --><g id="a" style="fill: #24292f">'
        '<use xlink:href="#a" clip-path="url(#b)" x="1.23456"/><text>id="1.23456"</text></g></svg>'
    )
    assert inlined(svg, "p", 'say "hi" <b>') == (
        '<svg role="img" aria-label="say &quot;hi&quot; &lt;b&gt;" viewBox="0 0 10 20">'
        '<g id="p-a" style="fill: var(--ink)"><use href="#p-a" clip-path="url(#p-b)" x="1.23"/>'
        '<text>id="1.23456"</text></g></svg>'
    )
