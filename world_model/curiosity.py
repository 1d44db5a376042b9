"""Bonuses for what is novel: how a transition differs from what memory or models hold of the past."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.curiosity import CuriosityOptions
from configs.world_model import WorldModelOptions
from world_model.batch import Batch, Latents
from world_model.layers import EnsembleMLP
from world_model.memory import EMPTY, KeyQueue
from world_model.objectives.base import Objective

Predict = Callable[[Tensor, Tensor], Tensor]
"""The latent that dynamics expect, (N, Z + A), (N, A) -> (N, Z)."""


@dataclass(frozen=True)
class Arrivals:
    """N transitions, by what came of them; no gradient.

    Attributes:
        state: where each began, (N, Z + A).
        action: what was done, (N, A).
        latent: what came, (N, Z), by the momentum key encoder.
        key: its projection, (N, P), of unit length.
        episode: int64 (N,), where it came; `EMPTY` where it never did, beyond the end of an episode.
        time: int64 (N,), when.
        is_imagined: whether nothing of it ever came; `episode` is `EMPTY` throughout.
    """

    state: Tensor
    action: Tensor
    latent: Tensor
    key: Tensor
    episode: Tensor
    time: Tensor
    is_imagined: bool = False

    @classmethod
    @torch.no_grad()
    def of(cls, batch: Batch, latents: Latents, objective: Objective) -> Arrivals:
        """Those of all decisions of a batch, B windows of H decisions, N = B * H."""
        episode, time = batch.key_positions
        latent = latents.z_key[:, 1:].flatten(0, 1)
        return cls(
            state=latents.state_key[:, :-1].flatten(0, 1).detach(),
            action=batch.action.flatten(0, 1),
            latent=latent,
            key=unit_keys(objective, latent),
            episode=episode.masked_fill(batch.is_beyond.flatten(), EMPTY),
            time=time,
        )

    @classmethod
    @torch.no_grad()
    def imagined(cls, state: Tensor, action: Tensor, latent: Tensor, objective: Objective) -> Arrivals:
        """Those that a model expects, (..., Z + A), (..., A) and (..., Z), all leading axes in one."""
        latent = latent.flatten(0, -2)
        nowhere = torch.full((len(latent),), EMPTY, device=latent.device)
        return cls(
            state=state.flatten(0, -2),
            action=action.flatten(0, -2),
            latent=latent,
            key=unit_keys(objective, latent),
            episode=nowhere,
            time=torch.zeros_like(nowhere),
            is_imagined=True,
        )


def unit_keys(objective: Objective, latent: Tensor) -> Tensor:
    """Keys that the objective compares, of unit length, (..., Z) -> (..., P)."""
    return F.normalize(objective.key(latent), dim=-1, eps=1e-12)


class Bonus(nn.Module, ABC):
    """How novel arrivals are: larger is more so; in units of its own."""

    foresees = True
    """Whether it can be told of imagined arrivals, too: nothing but what comes is needed."""

    @abstractmethod
    def forward(self, arrivals: Arrivals) -> Tensor:
        """One value each, (N,), without gradient; what stands at `EMPTY` has no neighbours in time."""

    def loss(self, arrivals: Arrivals) -> Tensor | None:
        """What its own parameters learn from, (N,); None where it has none."""
        return None

    def remember(self, key: Tensor, episode: Tensor, time: Tensor) -> None:
        """Take keys (M, P) into memory, int64 (M,) episodes and times; called once before every update."""

    def metrics(self, arrivals: Arrivals) -> dict[str, Tensor]:
        """Diagnostics, 0-d each."""
        return {}


class MemoryBonus(Bonus):
    """A bonus by comparison with keys of the past.

    Memory is a ring of keys of states drawn from replay, so that it stands for all that was seen. Every
    update brings the keys that it has computed anyway and pushes the oldest out: no key is older than
    `memory` / batch size updates.
    """

    def __init__(self, options: CuriosityOptions, model: WorldModelOptions, key_dim: int) -> None:
        """An empty memory of keys of size P = `key_dim`."""
        super().__init__()
        self.options = options
        self.near_window = model.near_window
        self.memory = KeyQueue(options.memory, key_dim)
        self._newest = 0
        self._stride = math.ceil(options.memory / options.planning_memory)

    def places(self, arrivals: Arrivals) -> slice:
        """Places of memory that arrivals are compared with: all, or some evenly spaced ones."""
        return slice(None, None, self._stride if arrivals.is_imagined else 1)

    def products(self, arrivals: Arrivals, vector: Tensor) -> Tensor:
        """Products of a vector for each arrival, (N, P), with keys at `places`, (N, M); -inf for none.

        That is an empty place, the arrival itself, and what was seen just before and after it.
        """
        if arrivals.is_imagined:  # is near nothing in time: one row serves all, and plans ask often
            places = self.places(arrivals)
            key, episode = self.memory.key[places], self.memory.episode[places]
            nothing = key.new_zeros(len(key)).masked_fill(episode == EMPTY, -torch.inf)
            return torch.addmm(nothing, vector, key.T)
        own = self.memory.is_near(arrivals.episode, arrivals.time, self.near_window)
        return (vector @ self.memory.key.T).masked_fill_(own, -torch.inf)

    def remember(self, key: Tensor, episode: Tensor, time: Tensor) -> None:
        """Keys of unit length."""
        self.memory.push(key, episode, time)
        self._newest = len(key)

    def metrics(self, arrivals: Arrivals) -> dict[str, Tensor]:
        """`kept`: mean cosine of keys with older ones of the same states in memory, 1 where nothing aged.

        Keys of the newest update are left out: they are those of this very batch.
        """
        same = self.memory.is_near(arrivals.episode, arrivals.time, 0) & (self.memory.episode != EMPTY)
        same[:, : self._newest] = False
        cosine = arrivals.key @ self.memory.key.T
        count = same.sum()
        return {"kept": torch.where(count > 0, (cosine * same).sum() / count.clamp_min(1), 1.0)}


class ContrastiveBonus(MemoryBonus):
    """A state is novel when it cannot be matched, as a positive, to anything in memory.

    r = log(1 + exp(1/τ) / Σ_m exp(k·m/τ)), minus the log-probability that a softmax over the state itself
    and memory gives to memory: near zero among copies, large where nothing is alike. A memory that is not
    full yet counts as if it were, of more such keys, and so does a part of it; one that holds nothing counts
    as one orthogonal key.
    """

    @torch.no_grad()
    def forward(self, arrivals: Arrivals) -> Tensor:
        """In nats, from 0 to about 1/τ."""
        most = 1 / self.options.temperature  # no product is larger: a sum of exponentials cannot overflow
        odds = self.products(arrivals, most * arrivals.key).sub_(most).exp_().sum(dim=1)
        held = self.memory.episode[self.places(arrivals)] != EMPTY
        missing = len(self.memory.episode) / held.sum().clamp_min(1)
        return F.softplus(-(missing * odds).log().clamp_min(-most))


class SurpriseBonus(MemoryBonus):
    """The contrastive error of the dynamics: how badly the key that was expected finds the one that came.

    -log softmax of q·k/τ against memory, without its keys near k: copies of what came would count as false
    negatives, and familiar states be the most surprising. What is imagined is what was expected: nobody is
    surprised in advance.
    """

    foresees = False

    def __init__(
        self,
        options: CuriosityOptions,
        model: WorldModelOptions,
        key_dim: int,
        *,
        predict: Predict,
        objective: Objective,
    ) -> None:
        """Expectations are predicted latents, projected as keys are."""
        super().__init__(options, model, key_dim)
        self._predict = predict
        self._keys = lambda latent: unit_keys(objective, latent)

    @torch.no_grad()
    def forward(self, arrivals: Arrivals) -> Tensor:
        """In nats, from 0 on."""
        temperature = self.options.temperature
        expected = self._keys(self._predict(arrivals.state, arrivals.action))
        near = arrivals.key @ self.memory.key.T > self.options.near
        logits = self.products(arrivals, expected / temperature)
        others = logits.masked_fill(near, -torch.inf).logsumexp(dim=1)
        positive = (expected * arrivals.key).sum(dim=1) / temperature
        return F.softplus(others - positive)


class KnnBonus(MemoryBonus):
    """Distance to the nearest keys in memory: log(1 + mean distance), a particle estimate of entropy.

    In a part of memory, as large a part of the nearest: they are as far away.

    Source: APT, Liu and Abbeel 2021, arXiv:2103.04551, eq. 5, in the space of keys.
    """

    @torch.no_grad()
    def forward(self, arrivals: Arrivals) -> Tensor:
        """From 0 to log 3."""
        cosine = self.products(arrivals, arrivals.key)
        share = cosine.shape[1] / len(self.memory.key)
        neighbours = min(math.ceil(self.options.neighbours * share), cosine.shape[1])
        nearest = cosine.topk(neighbours, dim=1).values
        nearest = nearest.clamp_min(-1.0)  # as far as unit vectors can be, where memory has too few
        return (2 - 2 * nearest).clamp_min(0).sqrt().mean(dim=1).log1p()


class DisagreementBonus(Bonus):
    """How far an ensemble of one-step models disagrees about the next latent.

    Source: Pathak et al. 2019, arXiv:1906.04161; on latents as in Plan2Explore, arXiv:2005.05960.
    """

    def __init__(self, options: CuriosityOptions, model: WorldModelOptions, input_dim: int) -> None:
        """Draw the members, which see states and actions, `input_dim` entries."""
        super().__init__()
        self.members = EnsembleMLP(options.members, input_dim, options.member_dim, model.latent_dim)

    @torch.no_grad()
    def forward(self, arrivals: Arrivals) -> Tensor:
        """Deviation over members, mean over the latent's entries."""
        expected = self._expect(arrivals)
        # torch's std takes ten times as long over few leading rows
        squares = (expected - expected.mean(dim=0)).square_().sum(dim=0)
        return squares.div_(len(expected) - 1).sqrt_().mean(dim=1)

    def loss(self, arrivals: Arrivals) -> Tensor:
        """Squared error, mean over the latent's entries, sum over members."""
        return (self._expect(arrivals) - arrivals.latent).square().mean(dim=2).sum(dim=0)

    def _expect(self, arrivals: Arrivals) -> Tensor:
        return self.members(torch.cat((arrivals.state, arrivals.action), dim=-1))


class Normaliser(nn.Module):
    """A bonus over its running deviation, less its running mean if `centred`; what lies far off is clipped.

    Invariant to the bonus's scale. The mean changes no preference where episodes go on to their limit, and
    values are smaller without it; where they can end, taking it away would make an end the way out of what is
    familiar. Momentum is 1/n for the first updates, 1/100 later.

    Source: RND, arXiv:1810.12894, section 2.4; there the deviation is that of returns.
    """

    mean: Tensor
    square: Tensor
    updates: Tensor

    RATE = 0.01
    SMALLEST = 1e-6

    def __init__(self, clip: float, *, centred: bool) -> None:
        """Nothing was seen yet."""
        super().__init__()
        self.clip, self.centred = clip, centred
        for name in ("mean", "square", "updates"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def deviation(self) -> Tensor:
        """Of the bonus, 0-d."""
        return (self.square - self.mean.square()).clamp_min(0).sqrt()

    @torch.no_grad()
    def follow(self, bonus: Tensor, counts: Tensor) -> None:
        """Take in values, of which some count, (N,) and bool (N,)."""
        self.updates += 1
        rate = (1 / self.updates).clamp_min(self.RATE)
        number = counts.sum().clamp_min(1)
        bonus = bonus.where(counts, 0.0)
        self.mean.lerp_(bonus.sum() / number, rate)
        self.square.lerp_(bonus.square().sum() / number, rate)

    def forward(self, bonus: Tensor) -> Tensor:
        """Same shape, in deviations, within `clip` of them around the mean."""
        deviation = self.deviation + self.SMALLEST
        distance = ((bonus - self.mean) / deviation).clamp(-self.clip, self.clip)
        return distance if self.centred else distance + self.mean / deviation
