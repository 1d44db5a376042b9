"""The part of a comparison that tells which states its runs visited."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.evaluation.comparison import visited_states
from agent.evaluation.comparison.report import make_page
from agent.evaluation.comparison.study import Question, Study, make_study
from agent.evaluation.comparison.visited_states import MOST_MAPS, explore
from configs.load import ConfigError
from envs.episodes import EpisodeStore
from scripts import cli
from tests.physics import make_episode
from tests.runs import collected, write_run

PENDULUM = "dmc/pendulum-swingup"


def record(run: Path, *episodes: list[float], entries: int = 2) -> None:
    """Episodes of a run: the angles that they went through, 10 frames each."""
    store = EpisodeStore(run / "episodes")
    for angles in episodes:
        physics = np.zeros((len(angles), entries))
        physics[:, :1] = np.array(angles)[:, None][:, : min(1, entries)]
        store.commit(make_episode(physics, task=PENDULUM, frames=10))


def study_of(*paths: Path) -> Study:
    study = make_study(collected(*paths), Question(methods=()))
    assert study is not None
    return study


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds of one variant, that visit 3 and 1 cells, and one of another, that visits 2."""
    for preset, seed in (("cpu", 1), ("cpu", 2), ("gpu", 1)):
        write_run(tmp_path / f"{preset}-{seed}", task=PENDULUM, seed=seed, preset=preset)
    record(tmp_path / "cpu-1", [0.0, 1.0], [1.0, 2.0])
    record(tmp_path / "cpu-2", [0.0, 0.01, 0.02])
    record(tmp_path / "gpu-1", [-1.0, -1.01, 1.0])
    return tmp_path


def test_rows_are_means_over_seeds(runs: Path, tmp_path: Path) -> None:
    found = explore(study_of(runs), tmp_path / "figures")
    one, other = found.rows
    assert (one.variant, one.seeds, one.frames, one.cells) == ("cpu", (1, 2), (20, 10), (3, 1))
    assert (one.mean_cells, one.possible_cells) == (2.0, 900)
    # 4 visits: one cell has two, two have one; 3 visits: all in one cell
    assert one.entropies == pytest.approx((1.5 * np.log(2), 0.0))
    assert one.mean_entropy == pytest.approx(0.75 * np.log(2))
    assert (other.variant, other.cells) == ("gpu", (2,))
    rows = list(csv.DictReader(io.StringIO(visited_states.growth_csv(found))))
    assert [(row["variant"], row["seed"], row["frames"], row["cells"]) for row in rows] == [
        ("cpu", "1", "10", "2"),
        ("cpu", "1", "20", "3"),
        ("cpu", "2", "10", "1"),
        ("gpu", "1", "10", "2"),
    ]
    records = visited_states.as_json(found)["visits"]
    assert [each["mean_cells"] for each in records] == [2.0, 2.0]
    (chart,) = found.charts
    assert chart.path.with_name(f"{chart.path.name}.svg").is_file()
    with Image.open(tmp_path / "figures" / "dmc-pendulum-swingup-visits.png") as picture:
        assert picture.width > 3 * 400, "three maps side by side"
    (small,) = found.maps
    assert small.caption == f"{PENDULUM}: cpu, seed 1; cpu, seed 2; gpu, seed 1"


def test_maps_are_of_the_variables_that_are_asked_for(runs: Path, tmp_path: Path) -> None:
    """Of tasks that have them; elsewhere of the first two, with a remark. If none has them: an error."""
    other = write_run(tmp_path / "cart", task="dmc/cartpole-swingup")
    EpisodeStore(other / "episodes").commit(make_episode(np.zeros((3, 4)), frames=10))
    study = study_of(runs)
    found = explore(study, tmp_path / "figures", variables=("hinge.velocity", "hinge"))
    maps = {each.run.task: [axis.name for axis in each.survey.map.axes] for each in found.visitors}
    assert maps == {PENDULUM: ["hinge.velocity", "hinge"], "dmc/cartpole-swingup": ["hinge_1", "slider"]}
    (note,) = found.notes
    assert "map of visits, dmc/cartpole-swingup: --variables: found hinge.velocity and hinge" in str(note)
    assert not note.is_loss
    for names in (("slider", "hinge"), ("hinge", "hinge")):
        with pytest.raises(ConfigError) as error:
            explore(study, tmp_path / "nothing", variables=names)
        text = f"found {' and '.join(names)}: take two of"
        assert f"dmc/cartpole-swingup: {text} hinge_1, slider, " in str(error.value)
        assert f"{PENDULUM}: {text} hinge, hinge.velocity" in str(error.value)
    assert not (tmp_path / "nothing").exists()


def test_unknown_variables_are_a_mistake(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--variables", "slider", "hinge", "--resamples", "20", "--out", str(tmp_path / "out")]
    assert cli.main(["curves", str(runs / "cpu-1"), *flags]) == 2
    expected = f"--variables: {PENDULUM}: found slider and hinge: take two of hinge, hinge.velocity"
    assert capsys.readouterr().err == f"nearfar: error: {expected}\n"
    assert not list((tmp_path / "out").iterdir())


def test_the_page_has_a_section(runs: Path, tmp_path: Path) -> None:
    study = study_of(runs)
    page = make_page(study, [], explore(study, tmp_path / "figures")).html
    assert page.count('id="visits"') == page.count('href="#visits"') == 1
    section = page[page.index('id="visits"') : page.index('id="reading"')]
    for text in ("<td>10 to 20</td>", "<td>2<small>3 · 1</small></td>", "data:image/png;base64", "<svg"):
        assert text in section, text
    without = page.replace('<a href="#visits">Visited states</a>', "")
    without = re.sub(r'<section id="visits">.*?</section>\n\n', "", without, flags=re.DOTALL)
    assert without == make_page(study, []).html, "all else is as it was"


def test_without_episodes_nothing_is_said_and_nothing_drawn(runs: Path, tmp_path: Path) -> None:
    """Nor of episodes without physics states."""
    study = study_of(runs)
    expected = make_page(study, []).html
    for run in ("cpu-1", "cpu-2", "gpu-1"):
        for path in (runs / run / "episodes").iterdir():
            path.unlink()
    record(runs / "cpu-1", [0.0, 1.0], entries=0)
    found = explore(study, tmp_path / "figures")
    assert (found.rows, found.charts, found.maps, found.notes) == ((), (), (), ())
    assert visited_states.as_json(found) == {}
    assert not (tmp_path / "figures").exists()
    page = make_page(study, [], found).html
    assert page == expected
    assert "Visited states" not in page


def test_damage_is_remarked_and_the_rest_used(runs: Path, tmp_path: Path) -> None:
    EpisodeStore(runs / "cpu-1" / "episodes").file(0).write_bytes(b"nonsense")
    (runs / "gpu-1" / "episodes" / "store.json").write_text("{")
    found = explore(study_of(runs), tmp_path / "figures")
    (row,) = found.rows
    assert (row.variant, row.cells) == ("cpu", (2, 1))
    assert len(found.notes) == 2
    assert not any(note.is_loss for note in found.notes)
    texts = " ".join(map(str, found.notes))
    assert "episode-00000000.safetensors" in texts
    assert "store.json" in texts


def test_of_many_runs_every_variant_has_its_map(tmp_path: Path) -> None:
    for seed in range(1, 15):
        record(write_run(tmp_path / f"a-{seed}", task=PENDULUM, seed=seed, preset="cpu"), [0.0, 1.0])
    record(write_run(tmp_path / "b", task=PENDULUM, seed=9, preset="gpu"), [0.0, 1.0])
    (picture,) = explore(study_of(tmp_path), tmp_path / "figures").maps
    shown = picture.caption.removeprefix(f"{PENDULUM}: ").split("; ")
    assert len(shown) == MOST_MAPS
    assert shown[-1] == "gpu, seed 9"
    assert shown[:3] == ["cpu, seed 1", "cpu, seed 2", "cpu, seed 3"]


def test_the_command_writes_it(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    flags = ["--resamples", "20", "--published", "none"]
    assert (
        cli.main(["curves", *(str(runs / run) for run in ("cpu-1", "gpu-1")), *flags, "--out", str(out)]) == 0
    )
    capsys.readouterr()
    summary = json.loads((out / "summary.json").read_text())
    assert [(each["variant"], each["cells"]) for each in summary["visits"]] == [("cpu", [3]), ("gpu", [2])]
    assert len((out / "visits.csv").read_text().splitlines()) == 1 + 2 + 1
    assert 'id="visits"' in (out / "report.html").read_text()
