"""Time that nobody sets back: the client's clock, on a machine whose clocks a test moves."""

from __future__ import annotations

import pytest
from world import SimulatedClock, Simulation

from tidings_client import Client, clock
from tidings_client.clock import SystemClock


class Machine(SimulatedClock):
    """The machine's clocks, in the place of the module `time`, and its timers. What the client sees of it is `now`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.set_by = 0.0
        """How much the clock on the wall was set, forwards or back."""
        monkeypatch.setattr(clock, "time", self)
        self._system = SystemClock()

    def monotonic(self) -> float:
        return self._now - 1_800_000_000

    def time(self) -> float:
        return self._now + self.set_by

    def now(self) -> float:
        return self._system.now()


async def test_a_clock_that_is_set_back_goes_on_and_so_does_one_of_a_machine_that_slept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    began = machine.now()

    def passed() -> float:
        return round(machine.now() - began, 3)

    await machine.advance(10)
    assert passed() == 10
    machine.set_by -= 3600
    assert passed() == 10
    await machine.advance(5)
    assert passed() == 15
    machine.set_by += 60
    assert passed() == 75, "asleep, only the clock on the wall goes on"
    machine.set_by -= 0.01
    await machine.advance(1)
    assert passed() == 75.99, "it is trimmed"
    machine.set_by -= 86400
    assert passed() == 75.99


async def test_a_client_whose_clock_is_set_back_by_an_hour_connects_again_as_soon_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    simulation = Simulation(clock=machine)
    client = Client("ws://server/ws", world=simulation.world)
    client.connect()
    await machine.advance(0)
    simulation.socket.welcome()
    request = client.request("order")
    simulation.socket.refuse(simulation.socket.next()["id"], "unavailable", retry_after_ms=500)
    machine.set_by -= 3600
    await machine.advance(1)
    assert simulation.socket.next()["id"] == request.id
    simulation.socket.cut()
    machine.set_by -= 3600
    await machine.advance(2)
    assert simulation.dialled == 2
    simulation.socket.welcome()
    machine.set_by -= 3600
    await machine.advance(76)
    assert simulation.sockets[1].closed_with == 4110, "nothing was heard for 75 s"
    request.on_settled(lambda _: None)
    await client.close()
