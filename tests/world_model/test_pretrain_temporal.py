"""The temporal method of pretraining, where episodes end inside windows, against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.points import Shifts, config_of, drawn, method_of
from world_model.pretrain.samples import Windows

B, H = 5, 3
EPISODE = torch.tensor([4, 4, 4, 9, 9])
TIME = torch.tensor([10, 12, 40, 10, 11])
# Whether obs[t + 1..t + H] is terminal, or stands beyond such an end.
TERMINATED = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
BEYOND = {(1, 2), (2, 1), (2, 2)}
NEAR_WINDOW, TEMPERATURE, RHO = 2, 0.1, 0.5


def test_rows_know_where_their_keys_stand() -> None:
    config = config_of("temporal", batch={"size": B})
    samples = drawn(config, 0)
    assert isinstance(samples, Windows)
    batch = replace(samples.batch, episode=EPISODE, time=TIME, terminated=TERMINATED)
    rows = method_of(config).embed(replace(samples, batch=batch), Shifts())
    for i, k in np.ndindex(B, H):
        assert rows["episode"][i, k] == EPISODE[i] and rows["time"][i, k] == TIME[i] + k + 1
        assert bool(rows["beyond"][i, k]) == ((i, k) in BEYOND)


def test_what_stands_beyond_an_end_is_neither_query_nor_negative() -> None:
    method = method_of(config_of("temporal"))
    query, key = torch.randn(2, B, H, 4, generator=torch.Generator().manual_seed(0)).double()
    places = list(np.ndindex(B, H))
    episode = {(i, k): int(EPISODE[i]) for i, k in places}
    time = {(i, k): int(TIME[i]) + k + 1 for i, k in places}
    unit = {
        name: {place: (row := each[place].numpy()) / np.linalg.norm(row) for place in places}
        for name, each in (("query", query), ("key", key))
    }
    expected = 0.0
    for own in set(places) - BEYOND:
        kept = [
            other
            for other in places
            if other == own
            or (
                other not in BEYOND
                and not (episode[other] == episode[own] and abs(time[other] - time[own]) <= NEAR_WINDOW)
            )
        ]
        logits = {place: float(unit["query"][own] @ unit["key"][place]) / TEMPERATURE for place in kept}
        loss = np.log(sum(np.exp(logit) for logit in logits.values())) - logits[own]
        weight = RHO ** own[1] / sum(RHO**k for k in range(H))
        expected += weight * loss / B
    beyond = torch.tensor([place in BEYOND for place in places]).reshape(B, H)
    rows = {
        "query": query,
        "key": key,
        "episode": EPISODE[:, None].expand(B, H),
        "time": torch.tensor([time[place] for place in places]).reshape(B, H),
        "beyond": beyond,
    }
    losses = method.losses(rows)
    assert float(losses["temporal"]) == pytest.approx(expected, rel=1e-6)
