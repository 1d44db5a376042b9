from __future__ import annotations

from typing import Any, get_args

import pytest
import tyro
from pydantic import ValidationError

from configs.views import RECIPES, RecipeName, ViewOptions, find_recipe, recipe_title
from configs.world_model import EncoderOptions


def test_every_name_has_a_recipe() -> None:
    assert list(RECIPES) == list(get_args(RecipeName))
    for name in get_args(RecipeName):
        assert find_recipe(name) is RECIPES[name]
    assert len({options.model_dump_json() for options in RECIPES.values()}) == len(RECIPES)


def test_no_recipe_mirrors_a_control_task() -> None:
    assert not any(options.flip for options in RECIPES.values())


def test_shift_is_the_augmentation_of_the_agent() -> None:
    assert RECIPES["shift"] == ViewOptions(shift_padding=EncoderOptions().shift_padding)


def test_unknown_recipe_is_refused_with_a_near_name() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'simclear'; perhaps you meant simclr"):
        find_recipe("simclear")
    with pytest.raises(ValueError, match="there are none, shift, curl"):
        find_recipe("?")


@pytest.mark.parametrize("name", get_args(RecipeName))
def test_recipes_survive_the_way_through_text(name: RecipeName) -> None:
    assert ViewOptions.model_validate_json(RECIPES[name].model_dump_json()) == RECIPES[name]
    assert tyro.cli(ViewOptions, args=[], default=RECIPES[name]) == RECIPES[name]


def test_flags_change_a_recipe() -> None:
    flags = ["--flip", "0.5", "--blur-second", "0.3", "--crop-area", "0.5", "0.9"]
    found = tyro.cli(ViewOptions, args=flags, default=RECIPES["simclr"])
    changes = {"flip": 0.5, "blur_second": 0.3, "crop_area": (0.5, 0.9)}
    assert found == RECIPES["simclr"].model_copy(update=changes)


@pytest.mark.parametrize("name", get_args(RecipeName))
def test_title_is_the_recipe_s_name(name: RecipeName) -> None:
    assert recipe_title(RECIPES[name]) == name


@pytest.mark.parametrize(
    ("name", "changes", "title"),
    [
        ("simclr", {"blur": 0.0}, "simclr, blur 0"),
        ("byol", {"flip": 0.5, "crop_area": (0.5, 1.0)}, "byol, flip 0.5, crop area 0.5 1"),
        ("byol", {"blur_second": None}, "byol, blur second unset"),
        ("none", {"cutout": 1.0}, "none, cutout 1"),
    ],
)
def test_title_names_what_differs(name: RecipeName, changes: dict[str, Any], title: str) -> None:
    assert recipe_title(RECIPES[name].model_copy(update=changes)) == title


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_area": (0.5, 0.2)}, "crop_area 0.5 0.2 goes down: give the smaller value first"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma 2 0.1 goes down"),
        ({"cutout_side": (0.3, 0.1)}, "cutout_side 0.3 0.1 goes down"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio 2 1 goes down"),
        ({"shift_padding": 2, "resized_crop": 0.5}, "shift_padding and resized_crop each choose the part"),
        ({"crop": 84, "shift_padding": 2}, "crop and shift_padding each choose the part"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"jitter": 1.1}, "less than or equal to 1"),
        ({"brightness": float("nan")}, "brightness"),
        ({"blur_sigma": (0.0, 1.0)}, "greater than 0"),
        ({"crop_area": (0.1, 0.2, 0.3)}, "crop_area"),
        ({"blurr": 1.0}, "blurr"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ViewOptions(**options)


def test_second_views_have_their_own_shares() -> None:
    byol = RECIPES["byol"].of_second_views()
    assert (byol.blur, byol.solarise, byol.blur_second, byol.solarise_second) == (0.1, 0.2, None, None)
    assert byol.of_second_views() == byol
    assert RECIPES["simclr"].of_second_views() == RECIPES["simclr"]
