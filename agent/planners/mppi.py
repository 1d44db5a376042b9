"""Model-predictive path integral control."""

from __future__ import annotations

import torch
from torch import Tensor

from agent.planners.base import GaussianSearch


class MPPI(GaussianSearch):
    """Averages all candidates, weighted by a softmax of their returns; starts at the policy.

    Source: Williams et al., arXiv:1707.02342; latent model and terminal value as in TD-MPC2,
    arXiv:2310.16828. Deviations: offsets from a closed-loop policy instead of open-loop actions; the plan
    before is one of the first candidates, instead of the mean that the search starts from; all
    candidates are averaged instead of an elite, with a temperature in units of the spread of their
    returns. Both keep the plan from following the errors of single returns.
    """

    def first_mean(self, before: Tensor) -> Tensor:
        """The policy."""
        return torch.zeros_like(before)

    def fit(self, offsets: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of all candidates, weighted."""
        spread = returns.std(dim=1, keepdim=True) + 1e-6
        weights = (returns / (self.options.temperature * spread)).softmax(dim=1)[:, :, None, None]
        mean = (weights * offsets).sum(dim=1)
        variance = (weights * (offsets - mean[:, None]).square()).sum(dim=1)
        return mean, variance.sqrt().clamp(self.options.min_std, self.options.max_std)
