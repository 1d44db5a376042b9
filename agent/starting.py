"""An agent that starts from an encoder which was learnt before."""

from __future__ import annotations

from collections.abc import Mapping

from agent.agent import Agent
from configs.load import ConfigError
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.encoder import Encoder, EncoderFacts


def check_fits(facts: EncoderFacts, env_spec: EnvSpec, config: Config) -> None:
    """Find where an encoder differs from the one that a run would build for itself.

    Args:
        facts: of the encoder to start from.
        env_spec: the run's task.
        config: of the run, with the encoder's path.

    Raises:
        ConfigError: it differs; the message says in what, and what to pass.
    """
    wanted = EncoderFacts.of(env_spec, config.world_model, config.obs)
    check_alike(f"the encoder {config.encoder}", *what_matters(facts, wanted))


def check_alike(subject: str, theirs: Mapping[str, object], ours: Mapping[str, object]) -> None:
    """Find where something that was made before differs from what a run needs.

    Args:
        subject: what it is, with its path.
        theirs: what matters about it, by the flag that sets it; facts without a flag in words.
        ours: the same of the run.

    Raises:
        ConfigError: it differs; the message says in what, and what to pass.
    """
    differing = [name for name in theirs if theirs[name] != ours.get(name)]
    if differing:
        found = "; ".join(f"{name} {theirs[name]}, not {ours.get(name, 'square ones')}" for name in differing)
        flags = " ".join(f"{name} {theirs[name]}" for name in differing if name.startswith("--"))
        remedy = f"pass {flags}" if all(name.startswith("--") for name in differing) else "take another one"
        raise ConfigError(f"{subject} was made for {found}: {remedy}")


def what_matters(facts: EncoderFacts, wanted: EncoderFacts) -> tuple[dict[str, object], dict[str, object]]:
    """What two encoders must have in common, of each, for `check_alike`."""
    if facts.obs != wanted.obs:  # what they look at decides what else matters
        return {"--obs": facts.obs}, {"--obs": wanted.obs}
    return _what_matters(facts), _what_matters(wanted)


def _what_matters(facts: EncoderFacts) -> dict[str, object]:
    """What others must have in common with an encoder, by flag; facts without a flag in words."""
    _, height, width = facts.frame_shape
    matters: dict[str, object] = {
        "--world-model.latent-dim": facts.latent_dim,
        "--world-model.simnorm-group": facts.simnorm_group,
    }
    if "pixels" in facts.obs:
        size = {"--size": height} if height == width else {"frames of": f"{height} x {width}"}
        matters |= size | {
            "--stack": facts.stack,
            "--world-model.encoder.channels": facts.encoder.channels,
            "--world-model.encoder.crop": facts.encoder.crop,
        }
    if "state" in facts.obs:
        matters |= {
            "a task's vector of length": facts.proprio_dim,
            "--world-model.hidden-dim": facts.hidden_dim,
        }
    return matters


def start_from(agent: Agent, encoder: Encoder) -> None:
    """Give an agent that has not learnt yet the weights of an encoder, in every copy that it holds.

    Args:
        agent: as it was built; optimisers know nothing of the encoder yet, and stay so.
        encoder: one that fits, see `check_fits`; unchanged.
    """
    weights = encoder.state_dict()
    for copy in (agent.model.encoder, agent.model.key_encoder, agent.steady.averages["encoder"]):
        copy.load_state_dict(weights)


def encoder_learns(config: Config, updates: int) -> bool:
    """Whether the update after so many others may change the encoder."""
    if config.encoder_mode == "warmup":
        return updates >= config.training.encoder_warmup_updates
    return config.encoder_mode == "finetune"
