from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from configs.schema import Config, ObsName
from envs.spec import EnvSpec
from world_model.batch import Batch
from world_model.encoder import perceived
from world_model.model import WorldModel

H = 3


@pytest.fixture
def model(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> WorldModel:
    """Without augmentation, and with a key encoder and heads that have left their initial values."""
    encoder = {"channels": 4, "shift_padding": 0, "proprio_noise": 0}
    options = tiny_config(world_model={"encoder": encoder}).world_model
    torch.manual_seed(0)
    model = WorldModel(env_spec, options, "pixels+state")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def batch(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> Batch:
    return make_batch(env_spec, horizon=H)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_latents_are_rolled_out_with_the_actions_between_them(model: WorldModel, batch: Batch) -> None:
    latents = model.encode(batch, generator())
    z, before = latents.z, torch.cat((batch.previous_action[:, None], batch.action), dim=1)
    vector = perceived(batch.proprio[:, 0])
    torch.testing.assert_close(z[:, 0], model.encoder(batch.frames[:, :3].flatten(1, 2), vector))
    for k in range(1, H + 1):
        state = torch.cat((z[:, k - 1], before[:, k - 1]), dim=-1)
        torch.testing.assert_close(z[:, k], model.dynamics(state, batch.action[:, k - 1]))


def test_a_state_is_a_latent_with_the_action_that_led_to_it(model: WorldModel, batch: Batch) -> None:
    latents = model.encode(batch, generator())
    for state, z in ((latents.state, latents.z), (latents.state_key, latents.z_key)):
        torch.testing.assert_close(state[..., :-2], z)
        torch.testing.assert_close(state[:, 0, -2:], batch.previous_action)
        torch.testing.assert_close(state[:, 1:, -2:], batch.action)


def test_keys_are_encodings_of_the_observations_reached(model: WorldModel, batch: Batch) -> None:
    z_key = model.encode(batch, generator()).z_key
    for k in range(H + 1):
        obs = torch.cat([batch.frames[:, k], batch.frames[:, k + 1], batch.frames[:, k + 2]], dim=1)
        torch.testing.assert_close(z_key[:, k], model.key_encoder(obs, perceived(batch.proprio[:, k])))


def test_a_window_is_shifted_as_one_and_apart_from_its_query(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    torch.manual_seed(0)
    model = WorldModel(env_spec, tiny_config().world_model, "pixels")
    still = replace(batch, frames=batch.frames[:, :1].expand_as(batch.frames))
    latents = model.encode(still, generator())
    torch.testing.assert_close(latents.z_key, latents.z_key[:, :1].expand_as(latents.z_key))
    moved = (latents.z[:, 0] - latents.z_key[:, 0]).abs().amax(dim=1) > 1e-4  # both encoders are equal still
    assert moved.float().mean() > 0.5


def test_vectors_are_perturbed_on_the_axis_on_which_they_are_perceived(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    options = tiny_config(world_model={"encoder": {"proprio_noise": 0.5}}).world_model
    large = replace(batch, proprio=torch.full_like(batch.proprio, 1e6))
    for obs in get_args(ObsName):
        frames, proprio = WorldModel(env_spec, options, obs).augment(large.frames, large.proprio, generator())
        assert torch.equal(frames, batch.frames) == (obs == "state"), "what is not seen is left alone"
        if obs == "pixels":
            assert torch.equal(proprio, large.proprio)
        else:
            deviation = proprio - perceived(large.proprio)
            assert deviation.unique().numel() > 0.9 * deviation.numel()
            assert float(deviation.std()) == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("obs", ["state", "pixels+state"])
def test_query_and_keys_have_noise_of_their_own(
    obs: ObsName, env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    torch.manual_seed(0)
    encoder = {"shift_padding": 0, "proprio_noise": 0.5}
    model = WorldModel(env_spec, tiny_config(world_model={"encoder": encoder}).world_model, obs)
    latents = model.encode(batch, generator())
    assert ((latents.z[:, 0] - latents.z_key[:, 0]).abs().amax(dim=1) > 1e-3).all()


def test_frames_of_size_zero_are_enough_for_the_vector(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    drawn = replace(env_spec, frame_shape=(3, 32, 32))
    undrawn = replace(env_spec, frame_shape=(3, 0, 0))
    found = []
    for spec in (drawn, undrawn):
        torch.manual_seed(0)
        model = WorldModel(spec, tiny_config().world_model, "state")
        frames = torch.zeros(*batch.frames.shape[:2], *spec.frame_shape, dtype=torch.uint8)
        found.append(model.encode(replace(batch, frames=frames), generator()))
    torch.testing.assert_close(found[0].z, found[1].z, rtol=0, atol=0)
    torch.testing.assert_close(found[0].z_key, found[1].z_key, rtol=0, atol=0)


def test_reward_is_predicted_from_the_latent_before_the_action(model: WorldModel, batch: Batch) -> None:
    latents = model.encode(batch, generator())
    found = model.losses(batch, latents)[0]["reward"]
    for k in range(H):
        logits = model.reward(torch.cat((latents.state[:, k], batch.action[:, k]), dim=-1))
        torch.testing.assert_close(found[:, k], model.two_hot.loss(logits, batch.reward[:, k]))
        predicted = model.predict_reward(latents.state[:, k], batch.action[:, k])
        torch.testing.assert_close(predicted, model.two_hot.decode(logits))


def test_continuation_is_predicted_from_the_latent_after_the_action(model: WorldModel, batch: Batch) -> None:
    terminated = torch.rand(batch.terminated.shape, generator=generator()) < 0.5
    latents = model.encode(batch, generator())
    found = model.losses(replace(batch, terminated=terminated), latents)[0]["continuation"]
    assert model.continuation is not None
    goes_on = model.continuation(latents.state[:, 1:]).squeeze(-1).sigmoid()
    torch.testing.assert_close(found, -torch.where(terminated, 1 - goes_on, goes_on).log())


def test_tasks_that_cannot_end_have_no_continuation_head(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    model = WorldModel(replace(env_spec, can_terminate=False), tiny_config().world_model, "pixels")
    latents = model.encode(batch, generator())
    losses, weights = model.losses(batch, latents)
    assert "continuation" not in losses
    assert losses.keys() == weights.keys()
    assert model.imagine(latents.state[:, 1:], batch.action)[2] == 1


def test_imagination_follows_the_averaged_networks(model: WorldModel, batch: Batch) -> None:
    state, action = model.encode(batch, generator()).state_key[:, :-1], batch.action
    for name in ("dynamics", "reward", "continuation"):  # what is learnt is not what is imagined with
        getattr(model, name).requires_grad_(False)
        for parameter in getattr(model, name).parameters():
            parameter.zero_()
    next_state, reward, continuation = model.imagine(state, action)
    averaged = model.averaged
    torch.testing.assert_close(next_state, torch.cat((averaged["dynamics"](state, action), action), dim=-1))
    torch.testing.assert_close(
        reward, model.two_hot.decode(averaged["reward"](torch.cat((state, action), dim=-1)))
    )
    torch.testing.assert_close(continuation, averaged["continuation"](next_state)[..., 0].sigmoid())


def test_steps_are_weighted_by_powers_of_rho(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> None:
    model = WorldModel(env_spec, tiny_config(world_model={"rho": 0.5}).world_model, "pixels")
    steps = torch.tensor([[1.0, 10.0, 100.0], [3.0, 30.0, 300.0]])
    assert model.reduce(steps).item() == pytest.approx(2 * (4 + 20 + 100) / 7)
    assert model.reduce(torch.tensor([1.0, 3.0])).item() == 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.reduce(steps).item() == pytest.approx(2 * (4 + 20 + 100) / 7)


def test_key_encoder_follows(model: WorldModel) -> None:
    before = [parameter.clone() for parameter in model.key_encoder.parameters()]
    model.after_step()
    tau = model.options.key_tau
    moved = zip(before, model.encoder.parameters(), model.key_encoder.parameters(), strict=True)
    for old, online, new in moved:
        torch.testing.assert_close(new, nn.Parameter(old.lerp(online, tau), requires_grad=False))
