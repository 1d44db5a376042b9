"""The file in which clip keeps what finds states by pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from world_model.encoder_file import EncoderCard, EncoderFileError
from world_model.probing import retrieval_across
from world_model.towers import FILE_NAME, TowerFacts, Towers, find_towers, save_towers

FACTS = TowerFacts(encoder="0123abcd", latent_dim=6, proprio_dim=4, hidden_dim=8, projection_dim=3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_towers(tmp_path / FILE_NAME, Towers(FACTS), EncoderCard("clip"))
    return tmp_path / FILE_NAME


def test_towers_come_back_bit_for_bit(saved: Path) -> None:
    torch.manual_seed(0)
    towers = Towers(FACTS)
    before = torch.get_rng_state()
    for encoder in (saved.parent, saved.parent / "encoder.safetensors"):
        found = find_towers(encoder, "0123abcd")
        assert found is not None and found.facts == FACTS
        z, proprio = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), torch.ones(5, 4)
        assert torch.equal(found.projection(z), towers.projection(z))
        assert torch.equal(found.state_encoder(proprio), towers.state_encoder(proprio))
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn"


def test_towers_of_other_encoders_are_none(saved: Path, tmp_path: Path) -> None:
    assert find_towers(saved.parent, "another") is None
    assert find_towers(tmp_path / "elsewhere" / "encoder.safetensors", "0123abcd") is None


@pytest.mark.parametrize("change", ["cut", "weights", "shape", "facts", "kind"])
def test_damage_is_one_line(saved: Path, change: str) -> None:
    with safetensors.safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = safetensors.torch.load_file(saved)
    if change == "weights":
        tensors["projection.0.weight"][0, 0] += 1
    elif change == "shape":
        tensors["state_encoder.0.weight"] = torch.zeros(8, 5)
    elif change == "facts":
        metadata["facts"] = metadata["facts"].replace('"hidden_dim":8', f'"hidden_dim":{10**9}')
    elif change == "kind":
        metadata["kind"] = "nearfar-encoder"
    safetensors.torch.save_file(tensors, saved, metadata)
    if change == "cut":
        saved.write_bytes(saved.read_bytes()[:-9])
    with pytest.raises(EncoderFileError, match=r"state_encoder\.safetensors") as caught:
        find_towers(saved.parent, "0123abcd")
    assert "\n" not in str(caught.value)


def test_modalities_find_one_another_as_often_as_they_are_alike() -> None:
    """Of 12 episodes, six have keys like their queries, and in six all keys are one."""
    rng = np.random.default_rng(0)
    episode, time = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    directions = np.linalg.qr(rng.normal(size=(16, 16)))[0][:12]
    query = directions[episode].astype(np.float32)
    key = query.copy()
    key[episode >= 6] = directions[6] + directions[7]
    found = retrieval_across(query, key, episode, time)
    assert found is not None and found[2] == 12, "one moment of each episode: others are too near"
    there, back = found[:2]
    assert there == 0.5, "what all others have alike is no hit"
    assert back == 0.5
    assert retrieval_across(query[:9], key[:9], episode[:9], time[:9]) is None
