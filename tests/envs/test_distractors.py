from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from PIL import Image

from configs.distractors import DistractorOptions
from envs import distractors, make_env
from envs.backgrounds import DistractorError, Waves
from envs.distractors import (
    STRENGTHS,
    Backgrounds,
    Colours,
    DistractedCamera,
    Viewpoint,
    is_background,
    orbit,
)
from envs.rendering import SuiteView, make_camera
from envs.vector import ProcessPool, env_spec_of, make_pool

KINDS = ("background", "colour", "camera")
ALL_HARD = "background=hard,colour=hard,camera=hard"
TASKS = ("cartpole-swingup", "walker-walk", "reacher-easy")

Episode = tuple[list[np.ndarray], list[float], list[np.ndarray]]


def play(env: gym.Env, seed: int | None, decisions: int = 6) -> Episode:
    """Frames, rewards and physics of an episode's beginning; the same actions every time."""
    obs, info = env.reset(seed=seed)
    frames, rewards, physics = [obs], [], [info["physics"]]
    rng = np.random.default_rng(0)
    for _ in range(decisions):
        obs, reward, _, _, info = env.step(rng.uniform(-1, 1, env_spec_of(env).action_dim))
        frames.append(obs)
        rewards.append(float(reward))
        physics.append(info["physics"])
    return frames, rewards, physics


def play_on(env: gym.Env) -> np.ndarray:
    """The frame after a decision to do nothing."""
    return env.step(np.zeros(env_spec_of(env).action_dim))[0]


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(np.abs(np.stack(one).astype(int) - np.stack(other)).mean())


def make(task: str, distract: str = "none", **options: Any) -> gym.Env:
    return make_env(task, distract=distract, stack=1, **options)


def labels(env: gym.Env) -> np.ndarray:
    """What dm_control says each pixel shows: id and type of an object, (64, 64, 2); -1 for the sky."""
    physics = env.get_wrapper_attr("_physics")
    return physics.render(64, 64, camera_id=0, segmentation=True)


@pytest.mark.gl
class TestSeeds:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_seed_of_the_reset_determines_all_that_is_seen(self, kind: str) -> None:
        env, fresh = (
            make("cartpole-swingup", f"{kind}=hard"),
            make("cartpole-swingup", f"{kind}=hard", seed=9),
        )
        play(env, 6, decisions=3)
        first = play(env, 4)[0]
        np.testing.assert_array_equal(first, play(fresh, 4)[0])
        for seed in (5, 6):
            assert difference(first, play(fresh, seed)[0]) > 1

    def test_without_a_seed_it_is_a_training_episode_that_the_environments_seed_determines(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seeds: list[int] = []
        monkeypatch.setattr(Viewpoint, "start", lambda _, seed: seeds.append(seed))
        monkeypatch.setattr(Viewpoint, "move", lambda _, view: None)
        for seed in (1, 1, 2):
            env = make("cartpole-swingup", "camera=easy", seed=seed)
            env.reset()
            env.reset()
        assert seeds[:2] == seeds[2:4] != seeds[4:]
        assert len(set(seeds)) == 4 and not any(seed % 2 for seed in seeds)

    def test_kinds_draw_from_streams_of_their_own(self) -> None:
        """Adding one kind leaves what another does as it was."""
        alone = DistractorOptions.parse("camera=hard")
        together = DistractorOptions.parse("camera=hard,colour=hard")
        cameras = []
        for options in (alone, together):
            view = Scene()
            camera = DistractedCamera(view, options, size=32, seed=0)
            camera.start(3)
            camera.frame()
            cameras.append(np.array(view.scene.camera[0].pos))
            view.close()
        np.testing.assert_array_equal(cameras[0], cameras[1])


class TestPools:
    @pytest.mark.parametrize(("strength", "count"), [("easy", 4), ("medium", 8), ("hard", 60)])
    def test_no_pattern_of_training_is_seen_in_evaluation(
        self, monkeypatch: pytest.MonkeyPatch, strength: str, count: int
    ) -> None:
        drawn: list[float] = []

        def record(rng: np.random.Generator, **options: Any) -> Waves:
            drawn.append(rng.random())  # the same generator makes the same pattern
            return Waves(rng, **options)

        monkeypatch.setattr(distractors, "Waves", record)
        pool = Backgrounds(strength, size=8)
        for seed in range(1000):
            pool.start(seed)
        training, evaluation = set(drawn[::2]), set(drawn[1::2])
        assert len(training) == count
        assert len(evaluation) == 500, "each episode of evaluation has its own"
        assert not training & evaluation

    def test_episodes_of_one_pattern_begin_at_different_moments(self) -> None:
        pool, image = Backgrounds("easy", size=8), np.zeros((8, 8, 3), np.uint8)
        seen = set()
        for seed in range(0, 40, 2):
            pool.start(seed)
            image[:] = 0
            pool.put_behind(image, np.ones((8, 8), bool))
            seen.add(image.tobytes())
        assert len(seen) == 20

    @pytest.mark.parametrize(("suffix", "opacity"), [("", 0.6), (":easy", 0.3), (":hard", 0.9)])
    def test_clips_of_a_folder_are_either_for_training_or_for_evaluation(
        self, tmp_path: Path, suffix: str, opacity: float
    ) -> None:
        for index in range(6):
            Image.new("RGB", (8, 8), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
        pool = Backgrounds(f"{tmp_path}{suffix}", size=8)
        seen: tuple[set[int], set[int]] = (set(), set())
        for seed in range(100):
            pool.start(seed)
            image = np.zeros((8, 8, 3), np.uint8)
            pool.put_behind(image, np.ones((8, 8), bool))
            seen[seed % 2].add(round(image[0, 0, 0] / opacity / 40))
        assert seen == ({0, 1, 2, 3}, {4, 5})


def test_what_is_drawn_in_a_colour_is_painted_and_what_is_drawn_in_a_material_is_left_to_it() -> None:
    model = mujoco.MjModel.from_xml_string(
        """
        <mujoco>
          <asset><material name="red" rgba=".8 .2 .2 .5"/></asset>
          <worldbody>
            <geom size="1" material="red"/>
            <geom size="1"/>
            <geom size="1" rgba=".1 .4 .9 .3"/>
            <geom size="1" rgba=".1 .4 .9 .3" material="red"/>
            <site rgba=".1 .4 .9 1"/>
          </worldbody>
        </mujoco>
        """
    )
    own = [array.copy() for array in (model.mat_rgba, model.geom_rgba, model.site_rgba)]
    colours = Colours(model, STRENGTHS["hard"])
    colours.start(0)
    colours.paint()
    materials, geoms, sites = model.mat_rgba - own[0], model.geom_rgba - own[1], model.site_rgba - own[2]
    assert np.abs(materials[:, :3]).min() > 0 and np.abs(sites[:, :3]).min() > 0
    assert (geoms[:, :3] != 0).all(axis=1).tolist() == [False, True, True, True]
    assert not geoms[0].any(), "or it would hide its material"
    for change in (materials, geoms, sites):
        assert not change[:, 3].any(), "what is transparent stays so"


def test_the_background_lies_over_the_image_by_its_opacity() -> None:
    rng = np.random.default_rng(0)
    for name, strength in STRENGTHS.items():
        pool, shown = Backgrounds(name, size=16), Backgrounds(name, size=16)
        pool.start(2)
        shown.start(2)
        for _ in range(3):
            before = rng.integers(0, 256, (16, 16, 3), np.uint8)
            image, where = before.copy(), rng.random((16, 16)) < 0.5
            pool.put_behind(image, where)
            assert shown._shown is not None
            picture = shown._shown.picture(shown._step).astype(float)
            shown._step += 1
            expected = (1 - strength.opacity) * before + strength.opacity * picture
            np.testing.assert_array_equal(image[~where], before[~where])
            assert np.abs(image[where] - expected[where]).max() < 2


@pytest.mark.gl
class TestPixels:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_stronger_the_further_from_the_clean_picture(self, kind: str) -> None:
        for task in ("cartpole-swingup", "reacher-easy"):
            clean = make(task)
            envs = [make(task, f"{kind}={strength}") for strength in STRENGTHS]
            changes = np.zeros(3)
            for seed in range(10):
                frames = play(clean, seed, 2)[0]
                changes += [difference(play(env, seed, 2)[0], frames) / 10 for env in envs]
            assert 0.5 < changes[0] < changes[1] < changes[2] < 128

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_jumps(self, kind: str) -> None:
        """From one decision to the next, less changes than from one episode to another."""
        clean, env = make("cartpole-balance"), make("cartpole-balance", f"{kind}=hard")
        starts, steps = [], []
        for seed in range(0, 12, 2):
            frames, plain = play(env, seed, 8)[0], play(clean, seed, 8)[0]
            moved = difference(frames[:-1], frames[1:]) - difference(plain[:-1], plain[1:])
            steps.append(moved)
            starts.append(frames[0])
        others = difference(starts[:-1], starts[1:])
        assert 0 < np.mean(steps) < others / 3

    @pytest.mark.parametrize("look", ["fast", "original"])
    @pytest.mark.parametrize("task", TASKS)
    def test_the_background_changes_sky_and_floor_alone(self, task: str, look: str) -> None:
        clean, env = make(task, look=look), make(task, "background=hard", look=look)
        physics = clean.get_wrapper_attr("_physics")
        floors = np.flatnonzero(physics.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        for seed in range(2):
            frames, plain = play(env, seed, 2)[0], play(clean, seed, 2)[0]
            shown = labels(clean)
            behind = (shown[..., 0] == -1) | np.isin(shown[..., 0], floors)
            np.testing.assert_array_equal(frames[-1][:, ~behind], plain[-1][:, ~behind])
            assert 20 < (~behind).sum() < 2000, "there is a robot in the picture"
            changed = (frames[-1] != plain[-1]).any(axis=0)
            assert changed[behind].mean() > 0.95

    def test_colours_leave_every_shape_where_it_is(self) -> None:
        for task in ("cartpole-swingup", "walker-walk"):  # the light on the reacher's floor is at its limit
            clean, env = make(task), make(task, "colour=hard")
            frames, plain = play(env, 2, 2)[0], play(clean, 2, 2)[0]
            shown = labels(clean)
            np.testing.assert_array_equal(labels(env), shown)
            sky = shown[..., 0] == -1
            np.testing.assert_array_equal(frames[-1][:, sky], plain[-1][:, sky])
            changed = (frames[-1] != plain[-1]).any(axis=0)
            assert changed[~sky].mean() > 0.9

    def test_colours_drift_within_their_range(self) -> None:
        env = make("walker-walk", "colour=medium")
        physics = env.get_wrapper_attr("_physics")
        own = physics.model.mat_rgba.copy()
        seen = []
        for seed in range(4):
            env.reset(seed=seed)
            for _ in range(12):
                env.step(np.zeros(6))
                seen.append(physics.model.mat_rgba.copy())
        change = np.stack(seen) - own
        assert 0.15 < np.abs(change[..., :3]).max() <= 0.2 + 1e-6
        np.testing.assert_array_equal(change[..., 3], 0)
        steps = np.abs(np.diff(np.stack(seen[:12])[..., :3], axis=0))
        assert 0 < steps.mean() < 0.02

    def test_a_moving_camera_keeps_following(self) -> None:
        """Wherever the cheetah is, it is in the picture, seen from another side."""
        env, clean = make("cheetah-run", "camera=hard"), make("cheetah-run")
        for seed in range(3):
            frames = []
            for one in (env, clean):
                one.reset(seed=seed)
                physics = one.get_wrapper_attr("_physics")
                with physics.reset_context():
                    physics.data.qpos[0] = 30.0  # metres from the start
                frames.append(play_on(one))
            shown = is_background(env.get_wrapper_attr("_camera")._view)
            assert 40 < (~shown).sum() < 2000
            assert difference([frames[0]], [frames[1]]) > 3

    @pytest.mark.parametrize(
        "task", ["cartpole-swingup", "reacher-easy", "ball_in_cup-catch", "finger-turn_hard"]
    )
    def test_physics_and_rewards_stay_as_they_are(self, task: str) -> None:
        (frames, *clean), (other_frames, *distracted) = (
            play(make(task, text), 8, 10) for text in ("none", ALL_HARD)
        )
        for one, other in zip(clean, distracted, strict=True):
            np.testing.assert_array_equal(one, other)
        assert difference(frames, other_frames) > 10

    @pytest.mark.parametrize("look", ["fast", "original"])
    def test_a_view_draws_what_the_plain_camera_draws(self, look: str) -> None:
        plain, viewed = make("walker-walk"), make("walker-walk")
        physics = [env.get_wrapper_attr("_physics") for env in (plain, viewed)]
        options: dict[str, Any] = {"size": 64, "camera_id": 0, "look": look}
        camera = make_camera(physics[0], distract="none", seed=0, **options)
        view = SuiteView(physics[1], **options)
        for env in (plain, viewed):
            play(env, 3, 3)
        view.update()
        is_background(view)  # leaves the scene as it was
        np.testing.assert_array_equal(view.draw().transpose(2, 0, 1), camera.frame())


class Scene:
    """A `View` of plain MuJoCo: a floor that is a plane, a ball that falls, a free camera."""

    XML = """
    <mujoco>
      <visual><quality shadowsize="0" offsamples="0"/></visual>
      <worldbody>
        <light pos="0 0 4"/>
        <geom type="plane" size="5 5 .1" rgba=".2 .3 .4 1"/>
        <body pos="0 0 1"><freejoint/><geom size=".3" rgba=".8 .2 .2 1"/></body>
      </worldbody>
    </mujoco>
    """

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(self.XML)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, self.camera)
        self.camera.lookat = self.data.subtree_com[0]
        self.renderer = mujoco.Renderer(self.model, 32, 32)
        self.scene = self.renderer.scene
        self.close = self.renderer.close

    def update(self) -> None:
        self.renderer.update_scene(self.data, self.camera)

    def draw(self) -> np.ndarray:
        return self.renderer.render()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


@pytest.mark.gl
def test_any_scene_of_mujoco_can_be_distracted_from(scene: Scene) -> None:
    """Nothing depends on dm_control: a free camera and the renderer of mujoco do as well."""
    scene.update()
    clean = scene.draw()
    ball = ~is_background(scene)
    assert 20 < ball.sum() < 500
    for kind in KINDS:
        options = DistractorOptions.parse(f"{kind}=hard")
        camera = DistractedCamera(scene, options, size=32, seed=0)
        camera.start(0)
        frame = camera.frame().transpose(1, 2, 0)
        changed = (frame != clean).any(axis=-1)
        assert changed.mean() > 0.3
        if kind == "background":
            np.testing.assert_array_equal(frame[ball], clean[ball])
            assert changed[~ball].mean() > 0.9
        if kind == "colour":
            assert changed[ball].mean() > 0.9


@pytest.mark.gl
def test_the_camera_of_the_scene_is_moved_as_it_is_said(scene: Scene) -> None:
    viewpoint = Viewpoint(STRENGTHS["medium"])
    scene.update()
    own = np.mean([eye.pos for eye in scene.scene.camera], axis=0)
    ball = scene.data.subtree_com[0]
    distances, angles = [], []
    for seed in range(20):
        viewpoint.start(seed)
        path = []
        for _ in range(10):
            scene.update()
            viewpoint.move(scene)
            eye = scene.scene.camera[0]
            np.testing.assert_array_equal(eye.pos, scene.scene.camera[1].pos)
            path.append(np.array(eye.pos))
            distances.append(np.linalg.norm(eye.pos - ball) / np.linalg.norm(own - ball))
            cosine = (
                (eye.pos - ball) @ (own - ball) / np.linalg.norm(eye.pos - ball) / np.linalg.norm(own - ball)
            )
            angles.append(np.rad2deg(np.arccos(cosine)))
        speeds, turns = (np.linalg.norm(np.diff(path, n, axis=0), axis=1) for n in (1, 2))
        assert speeds.max() < 0.02 * 2 * np.linalg.norm(own - ball), "of each of three directions"
        assert turns.mean() < speeds.mean(), "it goes on as it went"
    assert 0.9 - 1e-6 < min(distances) < 0.95 and 1.2 < max(distances) < 1.3 + 1e-6, "0.9 to 1.3 of its own"
    assert 18 < max(angles) < 18 * np.sqrt(2) + 1, "18 degrees each way"


class TestOrbit:
    POSITION, FORWARD, UP = np.array([0.0, -4.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])

    def swing(self, *change: float, height: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = np.array([0.0, -4.0, height])
        return orbit(position, self.FORWARD, self.UP, 4.0, np.array(change))

    def test_no_change_leaves_the_camera(self) -> None:
        for found, expected in zip(
            self.swing(0, 0, 0, 0), (self.POSITION, self.FORWARD, self.UP), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-12)

    @pytest.mark.parametrize(
        ("change", "position", "up"),
        [
            ((np.pi / 2, 0, 0, 0), (4, 0, 1), (0, 0, 1)),
            ((0, np.pi / 2, 0, 0), (0, 0, 5), (0, 1, 0)),
            ((0, 0, np.pi / 2, 0), (0, -4, 1), (1, 0, 0)),
            ((0, 0, 0, 0.5), (0, -6, 1), (0, 0, 1)),
            ((0, 0, 0, -0.5), (0, -2, 1), (0, 0, 1)),
        ],
    )
    def test_quarter_turns(self, change: tuple[float, ...], position: Any, up: Any) -> None:
        if change[1] == np.pi / 2:  # straight above, up is not defined: a little less
            change = (0, np.pi / 2 - 1e-6, 0, 0)
        found, forward, found_up = self.swing(*change)
        np.testing.assert_allclose(found, position, atol=1e-5)
        np.testing.assert_allclose(
            forward, -(found - [0, 0, 1]) / np.linalg.norm(found - [0, 0, 1]), atol=1e-5
        )
        np.testing.assert_allclose(found_up, up, atol=1e-5)

    def test_it_stays_a_camera_that_looks_at_the_point_from_above_the_floor(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(200):
            change = rng.uniform(0.3 * distractors.VIEW_LOW, 0.3 * distractors.VIEW_HIGH)
            position, forward, up = self.swing(*change)
            frame = np.stack([forward, up, np.cross(forward, up)])
            np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
            away = np.array([0, 0, 1]) - position
            np.testing.assert_allclose(np.cross(forward, away), 0, atol=1e-9)
            assert forward @ away > 0 and position[2] >= 0.5
        assert self.swing(0, -0.3, 0, 0, height=0.0)[0][2] < -1, "below the origin there is no floor"


@pytest.mark.gl
def test_the_choice_is_a_fact_of_the_environment() -> None:
    env = make("cartpole-swingup", " color=easy , background=hard ")
    assert env_spec_of(env).distract == "background=hard,colour=easy"
    assert env_spec_of(make("cartpole-swingup")).distract == "none"
    body = make_env("gym/Hopper-v5", size=32, distract="camera=easy")
    assert env_spec_of(body).distract == "camera=easy"


def test_a_task_without_a_scene_has_nothing_to_change() -> None:
    for function in (make_env, lambda task, distract: make_pool(task, count=2, seed=0, distract=distract)):
        with pytest.raises(DistractorError, match="counting draws no scene"):
            function("counting", distract="camera=easy")
    with pytest.raises(ValueError, match="unknown distractor 'kamera'; perhaps you meant camera"):
        make_env("cartpole-swingup", distract="kamera=easy")


def test_a_folder_is_checked_before_any_worker_is_started(tmp_path: Path) -> None:
    with pytest.raises(DistractorError, match="holds 0 of the two or more clips"):
        make_pool("cartpole-swingup", count=2, seed=0, distract=f"background={tmp_path}")


@pytest.mark.gl
def test_workers_see_what_this_process_sees() -> None:
    frames = []
    for in_process in (True, False):
        with make_pool(
            "cartpole-swingup", count=1, seed=0, size=32, distract=ALL_HARD, in_process=in_process
        ) as pool:
            assert isinstance(pool, ProcessPool) != in_process
            assert pool.env_spec.distract == ALL_HARD
            frames.append(pool.reset({0: 12})[0][0].pixels)
    np.testing.assert_array_equal(frames[0], frames[1])
