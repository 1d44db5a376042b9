from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.schema import ObsName
from configs.world_model import EncoderOptions
from world_model.encoder import Encoder, EncoderFacts, perceived
from world_model.encoder_file import (
    EncoderCard,
    EncoderFileError,
    fingerprint,
    load_encoder,
    save_encoder,
)
from world_model.export import export_encoder

CARD = EncoderCard(
    method="simclr",
    data={"episodes": 3, "fingerprint": "0123abcd"},
    config={"updates": 10, "nested": {"temperature": 0.1}},
    metrics={"retrieval": 0.5},
    versions={"torch": "2.10"},
)


def make_facts(obs: ObsName = "pixels", **changes: Any) -> EncoderFacts:
    facts = {
        "obs": obs,
        "frame_shape": (3, 32, 40),
        "stack": 2,
        "proprio_dim": 5,
        "latent_dim": 16,
        "simnorm_group": 4,
        "hidden_dim": 8,
        "encoder": EncoderOptions(channels=4),
    }
    return EncoderFacts.model_validate(facts | changes)


def make_encoder(obs: ObsName = "pixels", seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder = make_facts(obs).build()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def seen(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    pixels = torch.randint(0, 256, (rows, 6, 32, 40), dtype=torch.uint8, generator=generator)
    return pixels, 10 * torch.randn(rows, 5, generator=generator)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_encoder(tmp_path / "encoder.safetensors", make_encoder(), CARD)
    return tmp_path / "encoder.safetensors"


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Change tensors and metadata of a file as an attacker or another version would."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = safetensors.torch.load_file(path)
    change(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)


def refusal(path: Path) -> str:
    with pytest.raises(EncoderFileError) as caught:
        load_encoder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("obs", get_args(ObsName))
def test_comes_back_bit_for_bit(obs: ObsName, tmp_path: Path) -> None:
    encoder = make_encoder(obs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_encoder(tmp_path / "encoder.safetensors", encoder, CARD)
    (tmp_path / "encoder.json").unlink()  # it is for people
    loaded = load_encoder(tmp_path)
    assert loaded.card == CARD
    assert loaded.encoder.facts == make_facts(obs)
    torch.testing.assert_close(loaded.encoder(*seen(3)), encoder(*seen(3)), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in loaded.encoder.parameters()), "it may learn on"
    assert all(parameter.device.type == "cpu" for parameter in loaded.encoder.parameters())


def test_the_card_can_be_read_without_the_file(saved: Path) -> None:
    card = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["method"] == "simclr"
    assert card["config"]["nested"] == {"temperature": 0.1}
    assert card["facts"]["frame_shape"] == [3, 32, 40]
    assert card["fingerprint"] == load_encoder(saved).fingerprint


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load_encoder(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_fingerprints_tell_encoders_apart() -> None:
    prints = [fingerprint(make_encoder(seed=seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    other = make_facts(simnorm_group=8).build()  # the same weights mean something else
    other.load_state_dict(make_encoder().state_dict())
    assert fingerprint(other) != prints[0]


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_was_cut_or_changed_is_refused(data: st.DataObject, saved: Path) -> None:
    whole = saved.read_bytes()
    if data.draw(st.booleans(), label="cut"):
        damaged = bytearray(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = bytearray(whole)
        damaged[place] ^= data.draw(st.integers(1, 255))
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(damaged)
    try:
        loaded = load_encoder(path)
    except EncoderFileError:
        return
    # a changed letter of the card, or a space of the header, harms nothing that is computed
    assert fingerprint(loaded.encoder) == fingerprint(make_encoder())


def test_a_changed_weight_is_found(saved: Path) -> None:
    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        tensors["linear.bias"] += 1.0

    rewritten(saved, change)
    assert "weights" in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latent_dim": 10**12, "simnorm_group": 4}, "expected linear.weight"),
        ({"latent_dim": -16}, "greater than"),
        ({"frame_shape": (3, 4, 4)}, "leave nothing"),
        ({"simnorm_group": 5}, "not a multiple"),
        ({"obs": "pixels+state"}, "expected proprio"),
        ({"surprise": 1}, "Extra inputs"),
        ({"simnorm_group": 8}, "weights"),
    ],
)
def test_facts_that_the_weights_do_not_bear_out(saved: Path, changes: dict[str, Any], reason: str) -> None:
    """Among them such as would ask for terabytes of memory."""

    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["facts"] = json.dumps(json.loads(metadata["facts"]) | changes)

    rewritten(saved, change)
    assert reason in refusal(saved)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"kind": "nearfar-checkpoint"}, "no encoder"),
        ({"format": "2"}, "update nearfar"),
        ({"facts": "[" * 100_000}, "damaged"),
        ({"card": "{}"}, "damaged"),
        ({"card": "[" * 100_000}, "damaged"),
    ],
)
def test_foreign_and_newer_files(saved: Path, metadata: dict[str, str], reason: str) -> None:
    rewritten(saved, lambda _, found: found.update(metadata))
    assert reason in refusal(saved)


def test_what_is_no_file_of_tensors(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors at all, and longer than a header's length")
    assert "no encoder" in refusal(tmp_path / "text.safetensors")


@pytest.mark.parametrize("obs", get_args(ObsName))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_program_equals_the_encoder_for_any_number_of_rows(obs: ObsName, tmp_path: Path) -> None:
    """More rows than a CPU convolves at once, too; vectors in the task's own units."""
    encoder = make_encoder(obs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = fingerprint(encoder)
    export_encoder(tmp_path / "encoder.pt2", encoder)
    assert fingerprint(encoder) == before
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    for rows in (1, 3, 37):
        pixels, proprio = seen(rows)
        given = {"pixels": (pixels,), "state": (proprio,), "pixels+state": (pixels, proprio)}[obs]
        found = program(*given)
        assert not found.requires_grad
        torch.testing.assert_close(found, encoder(pixels, perceived(proprio)).detach(), rtol=1e-5, atol=1e-6)
