"""The cross-entropy method, and its sample-efficient form iCEM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agent.planners.base import GaussianSearch, PlanningModel, try_out
from configs.control import PlannerOptions

PAPER_HORIZON = 30


class CEM(GaussianSearch):
    """Fits the Gaussian to an elite of the candidates; starts at the plan of the decision before.

    Source: de Boer et al. 2005, "A tutorial on the cross-entropy method"; warm start as in PETS,
    arXiv:1805.12114. Deviations: offsets from a closed-loop policy instead of open-loop actions; a terminal
    value; the policy and the plan before are candidates; the deviation stays within bounds.
    """

    def __init__(self, options: PlannerOptions) -> None:
        """Plan with these options; an elite has two candidates or more."""
        super().__init__(options)
        self.elites = max(2, round(options.elite_share * options.samples))

    def first_mean(self, before: Tensor) -> Tensor:
        """The plan before."""
        return before

    def fit(self, offsets: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the elite."""
        elite, _ = best(offsets, returns, self.elites)
        return elite.mean(dim=1), self._within_bounds(elite.std(dim=1, unbiased=False))

    def _within_bounds(self, std: Tensor) -> Tensor:
        return std.clamp(self.options.min_std, self.options.max_std)


class ICEM(CEM):
    """CEM with coloured noise, memory and a shrinking population; proposes the best candidate of all.

    A part of the elite stays a candidate, in the next iteration and, one decision later, in the next search;
    the last iteration has the mean among its candidates.

    Source: Pinneri et al., arXiv:2008.06389, algorithm 1. Deviations: those of `CEM`; noise as `colouring`
    says; what lies beyond a remembered plan is the policy's action, instead of the mean's last one or a
    fresh draw; a part of the elite that is the policy itself is drawn afresh, since the policy is a
    candidate already.
    """

    REDUCTION = 1.25
    KEPT_SHARE = 0.3
    MOMENTUM = 0.1

    def __init__(self, options: PlannerOptions) -> None:
        """Plan with these options."""
        super().__init__(options)
        self.kept = max(1, int(self.KEPT_SHARE * self.elites))
        self.remembered = 1 + self.kept
        self.colour = colouring(options.horizon, options.noise_exponent)

    def search(
        self, model: PlanningModel, state: Tensor, memory: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As `Search.search`; the mean and a part of the elite are remembered."""
        mean, kept = memory[:, 0], memory[:, 1:]
        std = torch.full_like(mean, self.options.max_std)
        elite, elite_returns = kept[:, :0], kept[:, :0, 0, 0]
        for iteration in range(self.options.iterations):
            noise = self._noise(mean, self._population(iteration), generator)
            offsets = mean[:, None] + std[:, None] * noise
            if iteration == 0:
                self.include_policy(offsets, noise)
                is_policy = (kept == 0).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
                offsets[:, -self.kept :] = torch.where(is_policy, offsets[:, -self.kept :], kept)
            if iteration == self.options.iterations - 1:
                offsets[:, 1] = mean
            _, returns = try_out(model, state, offsets)
            # what was kept needs no second rollout
            offsets = torch.cat((offsets, elite[:, : self.kept]), dim=1)
            returns = torch.cat((returns, elite_returns[:, : self.kept]), dim=1)
            elite, elite_returns = best(offsets, returns, self.elites)
            mean = elite.mean(dim=1).lerp(mean, self.MOMENTUM)
            std = self._within_bounds(elite.std(dim=1, unbiased=False).lerp(std, self.MOMENTUM))
        return elite[:, 0], torch.cat((mean[:, None], elite[:, : self.kept]), dim=1)

    def _population(self, iteration: int) -> int:
        """Candidates to roll out: fewer in each iteration, and at first those that were remembered, too."""
        drawn = max(int(self.options.samples / self.REDUCTION**iteration), 2 * self.elites)
        return drawn + self.kept if iteration == 0 else drawn

    def _noise(self, mean: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Coloured noise of unit deviation, (E, N, H, A)."""
        shape = (len(mean), count, *mean.shape[1:])
        white = torch.randn(shape, generator=generator, device=mean.device)
        self.colour = self.colour.to(mean.device)  # a copy for the first decision alone
        return self.colour @ white


def best(offsets: Tensor, returns: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The K candidates of highest return, best first: (E, N, H, A), (E, N) -> (E, K, H, A), (E, K)."""
    returns, order = returns.topk(count, dim=1)
    return offsets.take_along_dim(order[:, :, None, None], dim=1), returns


def colouring(horizon: int, exponent: float) -> Tensor:
    """The matrix that makes noise of power 1 / frequency^exponent, and of unit deviation, out of white noise.

    Args:
        horizon: H, decisions of a plan.
        exponent: how strongly neighbouring decisions are alike; 0 is white.

    Returns:
        (H, H), a Cholesky factor of the autocovariance, to be multiplied from the left.

    Source: Timmer and König 1995, "On generating power law noise"; frequency 0 has the power of the lowest
    other one, as in iCEM. Deviation: a plan shorter than the paper's 30 decisions is a piece of a series of
    30, so that neighbouring decisions are as alike as there: a series of 3 has one frequency besides 0, and
    would be white whatever the exponent. Frequency 0 counts towards the deviation.
    """
    frequency = np.abs(np.fft.fftfreq(max(horizon, PAPER_HORIZON)))
    frequency[0] = frequency[1]
    covariance = np.fft.ifft(frequency**-exponent).real
    decisions = np.arange(horizon)
    apart = np.abs(decisions[:, None] - decisions)
    return torch.from_numpy(np.linalg.cholesky(covariance[apart] / covariance[0])).float()
