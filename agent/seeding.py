"""One seed yields named, independent random streams."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch

StreamName = Literal["env", "eval", "replay", "policy", "augment", "init"]

# Last entry of a spawn key: what a stream's name seeds.
_NUMPY, _TORCH, _EPISODE = range(3)


class Streams:
    """Generators that are keyed by name: using one, or adding another, leaves the rest as they are."""

    def __init__(self, seed: int) -> None:
        """Create no generator yet.

        Args:
            seed: the run's seed, >= 0.
        """
        self._seed = seed
        self._numpy: dict[str, np.random.Generator] = {}
        self._torch: dict[tuple[str, str], torch.Generator] = {}

    def numpy(self, name: StreamName) -> np.random.Generator:
        """The NumPy generator of a stream, the same object at each call."""
        if name not in self._numpy:
            self._numpy[name] = np.random.default_rng(self._sequence(name, _NUMPY))
        return self._numpy[name]

    def torch(self, name: StreamName, device: torch.device | str = "cpu") -> torch.Generator:
        """The torch generator of a stream on a device, the same object at each call."""
        key = (name, str(device))
        if key not in self._torch:
            seed = self._sequence(name, _TORCH).generate_state(1, np.uint64)
            self._torch[key] = torch.Generator(device).manual_seed(int(seed[0]))
        return self._torch[key]

    def episode_seed(self, name: Literal["env", "eval"], index: int, lane: int = 0) -> int:
        """Seed of an episode's reset, in [0, 2^32); a function of its arguments and the run's seed alone.

        Seeds of `eval` are odd and those of `env` even, so that no agent is evaluated on an episode
        that any run has trained on.

        Args:
            name: the stream.
            index: number of the episode in its lane.
            lane: which of the environments side by side.
        """
        drawn = int(self._sequence(name, _EPISODE, lane, index).generate_state(1)[0])
        return drawn // 2 * 2 + (name == "eval")

    def episode_generator(self, name: StreamName, index: int) -> np.random.Generator:
        """A new NumPy generator for an episode; a function of its arguments and the run's seed alone."""
        return np.random.default_rng(self._sequence(name, _EPISODE, index))

    def state_dict(self) -> dict[str, Any]:
        """States of all generators that were used: nested dicts of ints, str and uint8 tensors."""
        return {
            "seed": self._seed,
            "numpy": {name: generator.bit_generator.state for name, generator in self._numpy.items()},
            "torch": [[*key, generator.get_state()] for key, generator in self._torch.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the saved streams stood, in generators that were handed out already, too.

        Streams of a CUDA device are left out where there is none.

        Raises:
            ValueError: the state belongs to another seed.
        """
        if state["seed"] != self._seed:
            raise ValueError(f"streams were saved with seed {state['seed']}, these have seed {self._seed}")
        for name, saved in state["numpy"].items():
            self.numpy(name).bit_generator.state = saved
        for name, device, saved in state["torch"]:
            if torch.cuda.is_available() or torch.device(device).type != "cuda":
                self.torch(name, device).set_state(saved)

    def _sequence(self, name: StreamName, *key: int) -> np.random.SeedSequence:
        if name not in get_args(StreamName):
            raise ValueError(f"unknown stream {name!r}; there are {', '.join(get_args(StreamName))}")
        return np.random.SeedSequence(self._seed, spawn_key=(*name.encode(), *key))
