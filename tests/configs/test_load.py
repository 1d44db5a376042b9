from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from configs.distractors import DistractorOptions, split_background
from configs.load import (
    PRESET_DIRECTORY,
    ConfigError,
    describe,
    load_config,
    load_preset,
    preset_names,
    save_config,
)
from configs.schema import Config
from configs.world_model import ObjectiveName, WorldModelOptions

DEFAULT = Config()


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": inner for key, inner in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_modules_to_import_may_be_separated_by_commas() -> None:
    assert Config(imports=("a.b, c", "d", "c,")).imports == ("a.b", "c", "d")


def test_presets_are_those_of_the_design() -> None:
    machines = ["cpu", "debug", "gpu"]
    variations = ["curious", "curl", "decoupled", "explore", "hard-negatives", "proximity", "queue"]
    assert preset_names() == sorted([*machines, *get_args(ObjectiveName), *variations])


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_objective_has_a_preset_of_its_name(objective: str) -> None:
    assert load_preset(objective).world_model.objective == objective


def test_curl_is_the_published_contrast() -> None:
    """Laskin et al. 2020, arXiv:2004.04136, section 5 and table 3 of its appendix."""
    config = load_preset("curl")
    model = config.world_model
    assert (config.size, model.encoder.crop) == (100, 84)
    assert model.encoder.shift_padding == (100 - 84) / 2, "crops come from everywhere in the frame"
    assert (model.objective, model.similarity, model.key_tau) == ("augmentation", "bilinear", 0.05)
    assert (model.augmentation_weight, model.near_window) == (1.0, 0)
    assert (config.planner.control, config.actor_critic.imagined_updates) == ("policy", 0)


@pytest.mark.parametrize("name", preset_names())
def test_preset_holds_differences_only(name: str) -> None:
    stated = flatten(yaml.safe_load((PRESET_DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8")))
    loaded, defaults = flatten(load_preset(name).model_dump()), flatten(Config().model_dump())
    assert loaded["preset"] == name
    differences = {key for key in loaded if loaded[key] != defaults[key]} - {"preset"}
    # that of the default objective has nothing else to say
    assert differences == stated.keys() - ({"world_model.objective"} if name == "contrastive" else set())


def test_preset_from_a_file(tmp_path: Path) -> None:
    config = load_preset(write(tmp_path / "mine.yaml", "{preset: cpu, training: {batch_size: 7}}"))
    assert (config.preset, config.training.batch_size) == ("mine", 7)
    assert config.training.learning_rate == Config().training.learning_rate


def test_presets_are_joined(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.yaml", "{training: {batch_size: 7}, world_model: {objective: none}}")
    config = load_preset(f"debug+{mine}+byol")
    assert config.preset == "debug+mine+byol"
    assert (config.training.batch_size, config.training.random_frames) == (7, 800)
    assert (config.world_model.objective, config.world_model.latent_dim) == ("byol", 32), "later ones win"
    with pytest.raises(ConfigError, match="unknown preset 'byool'; perhaps you meant byol"):
        load_preset("debug+byool")
    with pytest.raises(
        ConfigError, match=r"byol.yaml and .*queue.yaml: world_model: queue vary the temporal"
    ):
        load_preset("byol+queue")


def test_empty_preset_is_the_schema(tmp_path: Path) -> None:
    assert load_preset(write(tmp_path / "mine.yaml", "")) == Config(preset="mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("world_model: {latent_dm: 3}", "unknown option world_model.latent_dm; perhaps you meant latent_dim"),
        ("world_model: {encoder: {chanels: 3}}", "world_model.encoder.chanels; perhaps you meant channels"),
        ("sed: 3", "unknown option sed; perhaps you meant seed"),
        ("seed: -1", "seed: input should be greater than or equal to 0, not -1"),
        ("world_model: {latent_dim: 12}", "world_model: latent_dim 12 is not a multiple of simnorm_group 8"),
        (
            "actor_critic: {imagined_updates: 3}",
            "actor_critic: imagined_updates 3 is more than extra_updates 2",
        ),
        (
            "distract: backgruond=easy",
            "distract: unknown distractor 'backgruond'; perhaps you meant background",
        ),
        ("planner: {min_std: 0.9}", "planner.min_std 0.9 exceeds planner.max_std 0.4"),
        ("curiosity: {members: 1}", "curiosity.members: input should be greater than or equal to 2"),
        ("curiosity: {memory: 10000000000000}", "curiosity.memory: input should be less than or equal to"),
        ("curiosity: {weight: 1e300}", "curiosity.weight: input should be less than or equal to 1000000"),
        (
            "curiosity: {bonus: knn, weight: 0, final_weight: 0}",
            "curiosity.weight and curiosity.final_weight are 0: the bonus is never sought",
        ),
        ("look: pretty", "look: input should be 'fast' or 'original', not 'pretty'"),
        ("{seed: -1, frames: 0}", "not -1; frames: "),
        ("planner: [", "is not YAML"),
        ("- seed", "holds no options"),
    ],
)
def test_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_preset(path)
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_preset_offers_near_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'gpuu'; perhaps you meant gpu"):
        load_preset("gpuu")
    with pytest.raises(ConfigError, match=r"there are augmentation, .*, cpu, .*, gpu"):
        load_preset("zebra")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml: No such file"):
        load_config(tmp_path / "absent.yaml")


def test_config_survives_the_file(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "task": "dmc/walker-walk",
            "distract": "camera=hard",
            "imports": ["my.tasks"],
            "action_repeat": 2,
            "actor_critic": {"discount": 0.97},
            "training": {"learning_rate": 1e-5},
            "world_model": {"objective": "none"},
        }
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 1, "defaults are written too"


def change(**values: Any) -> Config:
    return Config.model_validate(values)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("none", "none"),
        (" none ", "none"),
        ("camera=easy", "camera=easy"),
        ("camera=easy,background=medium", "background=medium,camera=easy"),
        (" color = hard , background = easy", "background=easy,colour=hard"),
        ("background=/a/clips,colour=easy", "background=/a/clips,colour=easy"),
        ("background=/a/b/../clips/", "background=/a/clips"),
        ("background=./clips", f"background={Path.cwd() / 'clips'}"),
        ("background=~/clips", f"background={Path.home() / 'clips'}"),
        ("background=/a=b/c", "background=/a=b/c"),
        ("background=./clips:hard", f"background={Path.cwd() / 'clips'}:hard"),
        ("background=/a:medium", "background=/a"),
        ("background=/a:b", "background=/a:b"),
    ],
)
def test_distractors_have_one_text_form(text: str, canonical: str) -> None:
    config = change(distract=text)
    assert config.distract == canonical
    options = DistractorOptions.parse(canonical)
    assert str(options) == canonical
    assert options == DistractorOptions.parse(text)


@pytest.mark.parametrize(
    ("choice", "folder", "strength"),
    [("easy", None, "easy"), ("/a", "/a", "medium"), ("/a:hard", "/a", "hard"), ("/a:b", "/a:b", "medium")],
)
def test_a_background_is_a_strength_or_a_folder_with_one(
    choice: str, folder: str | None, strength: str
) -> None:
    assert split_background(choice) == (folder and Path(folder), strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no distractor: write KIND=STRENGTH, for instance background=medium,camera=easy, or none"),
        ("easy", "'easy' is no distractor: write KIND=STRENGTH"),
        ("camera=", "'camera=' is no distractor"),
        ("camera=easy,", "'' is no distractor"),
        ("none,camera=easy", "'none' is no distractor"),
        ("colors=easy", "unknown distractor 'colors'; perhaps you meant colour"),
        ("light=easy", "unknown distractor 'light'; there are background, colour, camera"),
        ("camera=esay", "unknown strength 'esay' of camera; perhaps you meant easy"),
        ("camera=9", "unknown strength '9' of camera; there are easy, medium, hard"),
        ("camera=./clips", "unknown strength './clips' of camera"),
        (
            "background=medum",
            "unknown strength 'medum' of background; perhaps you meant medium "
            "(a folder is written with a slash: ./medum)",
        ),
        ("camera=easy,camera=hard", "camera is given twice: keep one of them"),
        ("color=easy,colour=easy", "colour is given twice"),
    ],
)
def test_mistake_in_distractors_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        change(distract=text)
    assert describe(caught.value).startswith(f"distract: {message}")


@pytest.mark.parametrize("objective", ["byol", "temporal", "none"])
def test_similarity_without_the_term_that_uses_it_is_refused(objective: str) -> None:
    with pytest.raises(
        ValidationError, match=f"similarity bilinear .* which the objective {objective} does not have"
    ):
        WorldModelOptions.model_validate({"objective": objective, "similarity": "bilinear"})
    WorldModelOptions(objective="augmentation", similarity="bilinear")
