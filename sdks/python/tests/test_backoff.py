"""When clients come back: every draw uniform over its bound, and a crowd never in step."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import List

import pytest
from world import SimulatedClock, Simulation

from tidings_client import Backoff, Client

BOUNDS_S = [1, 2, 4, 8, 16, 30]
DRAWS = 20_000
# What the distance of Kolmogorov and Smirnov exceeds once in a thousand times, if the draws are uniform.
DISTANCE_MAX = 1.95 / math.sqrt(DRAWS)


def distance_from_uniform(draws: List[float], bound: float) -> float:
    """The largest distance between the share of draws up to a value and what that share has to be."""
    steps = [(index / len(draws), draw / bound) for index, draw in enumerate(sorted(draws))]
    return max(max(abs(share - part), abs(share + 1 / len(draws) - part)) for share, part in steps)


def test_the_bound_doubles_to_thirty_seconds_and_starts_anew() -> None:
    backoff = Backoff(lambda: 0.5)
    waits = [(backoff.bound_s, backoff.next()) for _ in range(8)]
    assert waits == [(1, 0.5), (2, 1), (4, 2), (8, 4), (16, 8), (30, 15), (30, 15), (30, 15)]
    backoff.reset()
    assert backoff.bound_s == 1


@pytest.mark.parametrize("failures", range(len(BOUNDS_S)), ids=[f"{bound} s" for bound in BOUNDS_S])
def test_draws_are_uniform_from_zero_to_the_bound(failures: int) -> None:
    rng = random.Random(20_000 + failures)
    draws: List[float] = []
    for _ in range(DRAWS):
        backoff = Backoff(rng.random)
        for _ in range(failures):
            backoff.next()
        draws.append(backoff.next())
    assert 0 <= min(draws) and max(draws) <= BOUNDS_S[failures]
    assert distance_from_uniform(draws, BOUNDS_S[failures]) < DISTANCE_MAX


def test_draws_that_are_not_uniform_are_seen() -> None:
    rng = random.Random(1)
    half = [0.5 + rng.random() / 2 for _ in range(DRAWS)]
    slanted = [rng.random() ** 1.05 for _ in range(DRAWS)]
    assert min(distance_from_uniform(half, 1), distance_from_uniform(slanted, 1)) > DISTANCE_MAX


async def test_a_thousand_clients_do_not_come_back_in_step() -> None:
    clock = SimulatedClock()
    crowd = [Simulation(seed, clock) for seed in range(1000)]
    clients = [Client("ws://server/ws", world=simulation.world) for simulation in crowd]
    for client in clients:
        client.connect()
    await clock.advance(0)
    for simulation in crowd:
        simulation.socket.welcome()
    await clock.advance(61)
    # All lose their connection at once, and the server stays away for a while.
    began = clock.now()
    for simulation in crowd:
        simulation.failures.extend(ConnectionRefusedError() for _ in range(3))
        simulation.socket.cut()
    await clock.advance(15)
    attempts = [[at - began for at in simulation.dialled_at[1:]] for simulation in crowd]
    assert {len(moments) for moments in attempts} == {4}
    first = [moments[0] for moments in attempts]
    assert distance_from_uniform(first, 1) < 1.95 / math.sqrt(len(first))
    for attempt, share_max in ((0, 0.15), (1, 0.1), (2, 0.05), (3, 0.04)):
        tenths = Counter(int(moments[attempt] * 10) for moments in attempts)
        assert max(tenths.values()) / len(crowd) < share_max, f"attempt {attempt + 1}: too many in a tenth of a second"
    for client in clients:
        await client.close()
