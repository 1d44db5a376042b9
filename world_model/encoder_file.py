"""Encoders in files of their own: tensors as safetensors, what they are as JSON, nothing as pickle.

`encoder.safetensors` holds everything; `encoder.json` beside it repeats the card for people.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from agent.atomic import write_atomically
from configs.options import Options
from world_model.encoder import Encoder, EncoderFacts

FORMAT = 1
KIND = "nearfar-encoder"
FILE_NAME = "encoder.safetensors"
"""What the file is called in a directory of pretraining."""

Network = TypeVar("Network")


class EncoderFileError(RuntimeError):
    """A file cannot be loaded as an encoder; the message names the file and the remedy."""


@dataclass(frozen=True)
class EncoderCard:
    """Where an encoder comes from; all of it values that JSON can hold.

    Attributes:
        method: how it was learnt, for instance `simclr`, or the objective of an agent.
        data: what it was learnt from, with a fingerprint.
        config: every option.
        metrics: what was measured at the end.
        versions: of the software, by name.
    """

    method: str
    data: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder from disk.

    Attributes:
        encoder: on the CPU; it may learn.
        card: where it comes from.
        fingerprint: of its weights and of what it was built from, 8 hexadecimal digits.
    """

    encoder: Encoder
    card: EncoderCard
    fingerprint: str


def save_encoder(path: str | os.PathLike[str], encoder: Encoder, card: EncoderCard) -> None:
    """Write an encoder, and its card as JSON beside it, in the file of the same name with suffix `.json`.

    Args:
        path: where to, `.safetensors`; an older file there is replaced at the very end.
        encoder: on any device; comes back bit for bit.
        card: where it comes from.

    Raises:
        TypeError: the card holds something that JSON cannot.
        OSError: one of the files cannot be written (disk full); an older one there is untouched.
    """
    write_network(Path(path), KIND, encoder, encoder.facts, card)


def write_network(path: Path, kind: str, network: nn.Module, facts: Options, card: EncoderCard) -> None:
    """Write a network of some kind, and its card as JSON beside it; see `save_encoder`.

    Args:
        path: where to, `.safetensors`.
        kind: of the file; `read_network` has to expect the same.
        network: whose state it is.
        facts: what it was built from.
        card: where it comes from.
    """
    # safetensors refuses strides and shared memory
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    print_ = fingerprint_of(network, facts)
    metadata = {
        "kind": kind,
        "format": str(FORMAT),
        "facts": facts.model_dump_json(),
        "card": json.dumps(asdict(card)),
        "fingerprint": print_,
    }
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    shown = {"fingerprint": print_, "facts": facts.model_dump(mode="json"), **asdict(card)}
    write_atomically(path.with_suffix(".json"), f"{json.dumps(shown, indent=2)}\n")


def load_encoder(path: str | os.PathLike[str]) -> LoadedEncoder:
    """Read what `save_encoder` wrote; the JSON file is not needed.

    Args:
        path: of the file, or of the directory of a pretraining that holds `encoder.safetensors`.

    Raises:
        EncoderFileError: the file is missing, damaged, no encoder, or of a newer format.
    """
    path = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    return read_network(path, KIND, _rebuilt)


def read_network(
    path: Path, kind: str, rebuild: Callable[[Mapping[str, Tensor], Mapping[str, str]], Network]
) -> Network:
    """Read what `write_network` wrote.

    Args:
        path: of the file.
        kind: that it has to be of.
        rebuild: makes the network of tensors and metadata; its errors say what is damaged.

    Raises:
        EncoderFileError: the file is missing, damaged, of another kind, or of a newer format.
    """
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)  # checks the header against the size of the file
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except OSError as error:
        raise EncoderFileError(f"cannot read encoder {path} ({error.strerror}): check its path") from error
    except (ValueError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise EncoderFileError(
            f"{path} is no encoder of nearfar, or damaged ({error}): give encoder.safetensors of a "
            "pretraining, a run directory or a checkpoint"
        ) from error
    if metadata.get("kind") != kind:
        raise EncoderFileError(f"{path} is no encoder of nearfar: give encoder.safetensors of a pretraining")
    if metadata.get("format") != str(FORMAT):
        raise EncoderFileError(
            f"encoder {path} has format {metadata.get('format')}, this version reads {FORMAT}: update nearfar"
        )
    try:
        return rebuild(tensors, metadata)
    except (ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise EncoderFileError(
            f"encoder {path} is damaged ({reason[:200]}): replace it by a copy, or make it again"
        ) from error


def encoder_from(tensors: Mapping[str, Tensor], facts: EncoderFacts) -> Encoder:
    """An encoder with given weights.

    Args:
        tensors: its state; kept, not copied.
        facts: what it was built from.

    Raises:
        RuntimeError: names or shapes of the tensors are not those of such an encoder.
    """
    for name, shape in facts.largest_weights.items():  # nothing is built as large as the facts may claim
        if name not in tensors or tensors[name].shape != shape:
            raise RuntimeError(f"expected {name} of shape {shape}")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        encoder = facts.build()
    encoder.load_state_dict(dict(tensors), assign=True)
    for parameter in encoder.parameters():
        if parameter.dtype != torch.float32:
            raise RuntimeError(f"expected weights of float32, found {parameter.dtype}")
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types


def fingerprint(encoder: Encoder) -> str:
    """CRC-32 of what an encoder was built from and of its weights, as 8 hexadecimal digits."""
    return fingerprint_of(encoder, encoder.facts)


def fingerprint_of(network: nn.Module, facts: Options) -> str:
    """The same for any network and what it was built from."""
    crc = zlib.crc32(facts.model_dump_json().encode())
    for name, tensor in sorted(network.state_dict().items()):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, crc)
    return f"{crc:08x}"


def _rebuilt(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> LoadedEncoder:
    try:
        facts = EncoderFacts.model_validate_json(metadata["facts"])
    except ValidationError as error:
        raise ValueError(f"what it was built from: {error.errors()[0]['msg']}") from error
    encoder = encoder_from(tensors, facts)
    if fingerprint(encoder) != metadata["fingerprint"]:
        raise ValueError("its weights are not those that were written")
    card = EncoderCard(**json.loads(metadata["card"]))
    return LoadedEncoder(encoder, card, metadata["fingerprint"])
