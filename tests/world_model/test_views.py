from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.views import RECIPES, ViewOptions
from world_model.views.parameters import OperationName, ViewParameters, draw_parameters, view_size
from world_model.views.pipeline import apply_view
from world_model.views.randomness import UNIFORMS, draw_uniforms, keyed_uniforms

EVERYTHING = ViewOptions(resized_crop=0.7, flip=0.5, jitter=0.8, grey=0.4, blur=0.6, solarise=0.3, cutout=0.5)
CASES: dict[str, ViewOptions] = {
    **{str(name): options for name, options in RECIPES.items()},
    "everything": EVERYTHING,
    "curl": ViewOptions(crop=30),
    "cutout": ViewOptions(cutout=1.0),
}
MANY = 8000


def images(rows: int, height: int = 40, width: int = 40, *, stack: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, 3 * stack, height, width), dtype=torch.uint8, generator=generator)


def drawn(options: ViewOptions, rows: int, size: tuple[int, int] = (40, 40)) -> ViewParameters:
    return draw_parameters(options, draw_uniforms(rows, torch.Generator().manual_seed(0)), size)


def share(parameters: ViewParameters, name: OperationName) -> float:
    return float(parameters.draws[name].is_chosen.double().mean())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [(40, 40), (84, 84), (100, 100), (33, 47)])
def test_views_keep_their_range_and_dtype(name: str, size: tuple[int, int]) -> None:
    stacks, parameters = images(17, *size), drawn(CASES[name], 17, size)
    before = stacks.clone()
    found = apply_view(stacks, parameters)
    keeps_bytes = name in ("none", "shift", "curl", "cutout")
    assert found.dtype == (torch.uint8 if keeps_bytes else torch.float32)
    assert found.shape == (17, 9, *view_size(CASES[name], size))
    assert bool(found.isfinite().all())
    assert 0 <= float(found.min()) < float(found.max()) <= 255
    found.fill_(3)
    assert torch.equal(stacks, before), "the result has memory of its own"
    exact = apply_view(stacks.double(), parameters)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(apply_view(stacks, parameters).double(), exact, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", CASES)
def test_one_draw_serves_a_whole_stack(name: str) -> None:
    """Frames that are the same stay the same, and a stack changes as its frames would by themselves."""
    parameters = drawn(CASES[name], 24)
    frame = images(24, stack=1)
    found = apply_view(frame.repeat(1, 3, 1, 1), parameters)
    assert torch.equal(found[:, :3], found[:, 3:6])
    assert torch.equal(found[:, :3], found[:, 6:])
    torch.testing.assert_close(found[:, :3], apply_view(frame, parameters), rtol=0, atol=1e-3)


def test_rows_that_are_not_chosen_stay_as_they_were() -> None:
    options = ViewOptions(
        resized_crop=0.2, flip=0.2, jitter=0.2, grey=0.2, blur=0.2, solarise=0.2, cutout=0.2
    )
    stacks, parameters = images(200), drawn(options, 200)
    found = apply_view(stacks, parameters)
    is_chosen = torch.stack([draw.is_chosen for draw in parameters.draws.values()]).any(0)
    assert 20 < int((~is_chosen).sum()) < 80
    is_same = (found == stacks).flatten(1).all(1)
    assert torch.equal(is_same, ~is_chosen)


def test_without_shares_nothing_happens() -> None:
    stacks = images(5)
    assert torch.equal(apply_view(stacks, drawn(ViewOptions(), 5)), stacks)


@pytest.mark.parametrize(
    "options",
    [
        {"resized_crop": 1.0, "crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0)},
        {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
        {"blur": 1.0, "blur_sigma": (1e-3, 1e-3)},
        {"crop": 40},
    ],
)
def test_zero_strength_changes_nothing(options: dict[str, Any]) -> None:
    stacks = images(20)
    found = apply_view(stacks, drawn(ViewOptions(**options), 20))
    torch.testing.assert_close(found.double(), stacks.double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 16, 17, 33])
def test_any_number_of_rows(rows: int) -> None:
    stacks, parameters = images(rows), drawn(EVERYTHING, rows)
    found = apply_view(stacks, parameters)
    assert found.shape == stacks.shape
    for i in range(rows):
        torch.testing.assert_close(
            found[i : i + 1], apply_view(stacks[i : i + 1], parameters.rows(i, i + 1)), rtol=0, atol=1e-3
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_keyed_views_do_not_depend_on_the_batch(dtype: torch.dtype) -> None:
    """Two processes with a part of the batch each make what one would have made."""
    stacks, samples = images(20, 41, 41).to(dtype), torch.arange(20) * 1000 - 7

    def views(of: Tensor, *, update: int = 4, view: int = 0) -> Tensor:
        uniforms = keyed_uniforms(samples[of], seed=9, update=update, view=view)
        return apply_view(stacks[of], draw_parameters(EVERYTHING, uniforms, (41, 41)))

    whole = views(torch.arange(20))
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    for part in (torch.arange(0, 20, 2), torch.arange(19, -1, -1), torch.tensor([13]), torch.tensor([5, 5])):
        torch.testing.assert_close(views(part), whole[part], rtol=0, atol=tolerance)
    every = torch.arange(20)
    assert not torch.equal(views(every, update=5), whole)
    assert not torch.equal(views(every, view=1), whole)


def test_crop_and_shift_are_slices() -> None:
    stacks = images(300, 20, 26, stack=1)
    cropped = drawn(ViewOptions(crop=17), 300, (20, 26))
    shifted = drawn(ViewOptions(shift_padding=2), 300, (20, 26))
    corners, moves = cropped.draws["crop"].values.int().tolist(), shifted.draws["shift"].values.int().tolist()
    assert {(top, left) for top, left in corners} == {(i, j) for i in range(4) for j in range(10)}
    assert {(dy, dx) for dy, dx in moves} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    for row, (found, (top, left)) in enumerate(zip(apply_view(stacks, cropped), corners, strict=True)):
        assert torch.equal(found, stacks[row, :, top : top + 17, left : left + 17])
    padded = np.pad(stacks.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    for row, (found, (dy, dx)) in enumerate(zip(apply_view(stacks, shifted), moves, strict=True)):
        np.testing.assert_array_equal(found, padded[row, :, 2 + dy : 22 + dy, 2 + dx : 28 + dx])


def test_operations_follow_one_another() -> None:
    """Each in turn, with the numbers of the whole, gives the whole."""
    stacks, parameters = images(30), drawn(EVERYTHING, 30)
    one_by_one: Tensor = stacks.float()
    for name in ("flip", "resized_crop", "jitter", "grey", "blur", "solarise", "cutout"):
        alone = ViewParameters({name: parameters.draws[name]}, parameters.size)
        changed = apply_view(one_by_one, alone)
        assert not torch.equal(changed, one_by_one)
        one_by_one = changed
    torch.testing.assert_close(apply_view(stacks, parameters), one_by_one, rtol=0, atol=1e-3)


def test_shares_are_those_of_the_options() -> None:
    parameters = drawn(EVERYTHING, MANY)
    for name in parameters.draws:
        assert share(parameters, name) == pytest.approx(getattr(EVERYTHING, name), abs=4 * 0.5 / MANY**0.5)


def test_no_operation_hangs_on_the_numbers_of_another() -> None:
    draws = drawn(EVERYTHING, MANY).draws
    for name, draw in draws.items():
        for other, its in draws.items():
            for column in (its.is_chosen.double(), *its.values.T) if name != other else ():
                related = np.corrcoef(draw.is_chosen.numpy(), column.numpy())[0, 1]
                assert abs(related) < 5 / MANY**0.5, (name, other)


def test_parameters_move_to_a_device() -> None:
    moved = drawn(EVERYTHING, 3).to(torch.device("meta"))
    assert {draw.values.device.type for draw in moved.draws.values()} == {"meta"}
    assert {draw.is_chosen.device.type for draw in moved.draws.values()} == {"meta"}


def test_second_views_may_differ() -> None:
    byol = RECIPES["byol"]
    first, second = drawn(byol, MANY), drawn(byol.of_second_views(), MANY)
    assert share(first, "blur") == 1
    assert share(second, "blur") == pytest.approx(0.1, abs=0.02)
    assert "solarise" not in first.draws
    assert share(second, "solarise") == pytest.approx(0.2, abs=0.02)
    simclr = RECIPES["simclr"]
    assert share(drawn(simclr.of_second_views(), MANY), "blur") == share(drawn(simclr, MANY), "blur")


def test_an_operation_left_out_moves_no_other_draw() -> None:
    whole = drawn(EVERYTHING, 50)
    for name in whole.draws:
        rest = drawn(EVERYTHING.model_copy(update={name: 0.0}), 50)
        assert rest.draws.keys() == whole.draws.keys() - {name}
        for other, draw in rest.draws.items():
            assert torch.equal(draw.is_chosen, whole.draws[other].is_chosen)
            assert torch.equal(draw.values, whole.draws[other].values)


def spread(values: Tensor) -> list[list[float]]:
    return [[float(column.min()), float(column.max())] for column in values.T]


def test_strengths_cover_their_ranges() -> None:
    options = EVERYTHING.model_copy(
        update={"brightness": 0.5, "contrast": 1.5, "saturation": 0.2, "hue": 0.3, "blur_sigma": (0.4, 1.1)}
    )
    draws = drawn(options, MANY).draws
    expected = [[0.5, 1.5], [0.0, 2.5], [0.8, 1.2], [-0.3, 0.3]]
    np.testing.assert_allclose(spread(draws["jitter"].values), expected, atol=0.003)
    np.testing.assert_allclose(spread(draws["blur"].values), [[0.4, 1.1]], atol=0.003)
    assert float(draws["jitter"].values[:, 1].mean()) == pytest.approx(1.25, abs=0.03), "uniform"


def test_resized_crops_lie_within_the_frame() -> None:
    options = ViewOptions(resized_crop=1.0, crop_area=(0.1, 0.5), crop_ratio=(0.5, 2.0))
    top, left, height, width = drawn(options, MANY, (40, 40)).draws["resized_crop"].values.unbind(1)
    assert float(torch.stack((top, left)).min()) >= 0
    assert float(torch.maximum(top + height, left + width).max()) <= 40 + 1e-9
    area = (height * width / 1600).numpy()
    np.testing.assert_allclose(
        np.quantile(area, [0, 0.25, 0.5, 0.75, 1]), [0.1, 0.2, 0.3, 0.4, 0.5], atol=0.01
    )
    ratio = np.log2((width / height).numpy())
    np.testing.assert_allclose(np.quantile(ratio, [0, 0.25, 0.5, 0.75, 1]), [-1, -0.5, 0, 0.5, 1], atol=0.03)
    wide = ViewOptions(resized_crop=1.0, crop_area=(0.9, 1.0), crop_ratio=(0.25, 4.0))
    box = drawn(wide, MANY, (30, 60)).draws["resized_crop"].values
    assert float(box[:, :2].min()) >= 0
    assert float((box[:, 0] + box[:, 2]).max()) <= 30 + 1e-9, "a part that does not fit is cut"
    assert float((box[:, 1] + box[:, 3]).max()) <= 60 + 1e-9


def test_covered_rectangles_lie_within_the_frame() -> None:
    box = drawn(ViewOptions(cutout=1.0, cutout_side=(0.1, 1.0)), MANY, (20, 30)).draws["cutout"].values
    assert torch.equal(box, box.round())
    top, left, bottom, right = box.unbind(1)
    assert (float(top.min()), float(left.min())) == (0, 0)
    assert (float(bottom.max()), float(right.max())) == (20, 30)
    assert spread(torch.stack((bottom - top, right - left), dim=1)) == [[2, 20], [3, 30]]


def test_the_largest_numbers_stay_in_range() -> None:
    nearly_one = torch.full((1, UNIFORMS), 1 - 2.0**-53, dtype=torch.float64)
    for options in (ViewOptions(crop=30), ViewOptions(shift_padding=3), ViewOptions(cutout=1.0)):
        found = apply_view(images(1), draw_parameters(options, nearly_one, (40, 40)))
        assert found.shape[2] in (30, 40)
    assert draw_parameters(ViewOptions(crop=30), nearly_one, (40, 40)).draws["crop"].values.tolist() == [
        [10, 10]
    ]
    shifted = draw_parameters(ViewOptions(shift_padding=3), nearly_one, (40, 40))
    assert shifted.draws["shift"].values.tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: view_size(ViewOptions(crop=84), (64, 64)),
            "crop 84 is larger than the frames, 64 x 64: lower",
        ),
        (lambda: view_size(ViewOptions(shift_padding=33), (64, 64)), "shift_padding 33 is more than half"),
        (
            lambda: draw_parameters(EVERYTHING, torch.rand(2, 5), (64, 64)),
            rf"\(B, {UNIFORMS}\), found \(2, 5\)",
        ),
        (lambda: apply_view(images(3), drawn(EVERYTHING, 2)), "expected parameters of 3 rows, found 2"),
        (lambda: apply_view(images(2).half(), drawn(EVERYTHING, 2)), "found torch.float16"),
        (lambda: apply_view(images(2)[:, :4], drawn(EVERYTHING, 2)), r"found torch.uint8 \(2, 4, 40, 40\)"),
    ],
)
def test_what_does_not_fit_is_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
