"""A random model of one stream partition: ticks, relays, log, consumer.

The product's own decisions are called: `position.step` and `tail.Last`, `tail.resume_after`. What
surrounds them is modelled: a batch lands whole or not at all, its acknowledgement may be lost, it
may land late from an abandoned producer; a relay may be frozen and go on as a zombie; the log may
lose its end, also what was acknowledged. The overridable methods are where bugs are seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rapport.messaging import tail
from rapport.messaging.position import Step, step

EPOCH = 1
COUNT = st.integers(1, 8)


@dataclass
class Relay:
    """A holder of the lease, past or present; `made` is the last number it knows of."""

    made: int
    acknowledged: int
    in_flight: range = range(0)
    dead: bool = False

    def next_batch(self, size: int) -> range:
        """What it would send now."""
        return range(self.acknowledged + 1, min(self.acknowledged + size, self.made) + 1)


class StreamModel(RuleBasedStateMachine):
    """At any moment a run without faults from here must bring the consumer to the last number."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.mark = 0
        self.log: list[int] = []
        self.leader = Relay(0, 0)
        self.zombies: list[Relay] = []
        self.stray: list[range] = []
        self.number = self.offset = self.stored = 0
        self.applied: list[int] = []

    # What the product decides.

    def resume(self, relay: Relay) -> None:
        """A new producer: where it starts is the product's decision."""
        last = tail.NOTHING
        for number in self.log:
            last = last.behind(EPOCH, number, UUID(int=number))
        relay.acknowledged = self.decide(relay, last)

    def decide(self, relay: Relay, last: tail.Last) -> int:
        """Where sending goes on; a bug overrides it."""
        return tail.resume_after(relay.acknowledged, (EPOCH, relay.made), last)

    def after_error(self, relay: Relay) -> None:
        """Abandon the producer; its batch may still land."""
        self.stray.append(relay.in_flight)
        relay.in_flight = range(0)
        try:
            self.resume(relay)
        except tail.ForkError:
            # The lease decides whether it is a fork; a zombie's is lost.
            assert relay is not self.leader, "the leader reports a fork that is none"
            relay.dead = True

    def read(self, number: int) -> bool:
        """The consumer meets a record; tell whether it reads on."""
        match step(EPOCH, self.number, EPOCH, number):
            case Step.APPLY:
                self.applied.append(number)
                self.number = number
                self.stored = self.offset + 1
            case Step.SKIP:
                self.stored = max(self.stored, self.offset + 1)
            case _:
                pass
        return True

    # What happens.

    @rule(count=COUNT)
    def cut(self, count: int) -> None:
        """A tick numbers rows."""
        self.made += count
        self.leader.made = self.made

    @rule(size=COUNT, who=st.integers(0, 5))
    def send(self, size: int, who: int) -> None:
        """A relay, past or present, sends a batch."""
        relay = self.one(who)
        if not relay.in_flight and not relay.dead:
            relay.in_flight = relay.next_batch(size)

    @rule(who=st.integers(0, 5), outcome=st.sampled_from(["acknowledged", "unheard", "lost"]))
    def answer(self, who: int, outcome: str) -> None:
        """A batch lands, or not; its relay hears of it, or not."""
        relay = self.one(who)
        if not relay.in_flight:
            return
        if outcome != "lost":
            self.log.extend(relay.in_flight)
        if outcome == "acknowledged":
            relay.acknowledged = relay.in_flight[-1]
            relay.in_flight = range(0)
        else:
            self.after_error(relay)

    @rule()
    def write_mark(self) -> None:
        """The leader notes what is acknowledged."""
        self.mark = self.leader.acknowledged

    @rule()
    def take_over(self) -> None:
        """Another leads; the one before goes on as a zombie."""
        self.zombies.append(self.leader)
        self.leader = Relay(self.made, self.mark)
        self.resume(self.leader)

    @precondition(lambda self: self.stray)
    @rule(data=st.data())
    def land_late(self, data: st.DataObject) -> None:
        """An abandoned producer's batch lands after all."""
        batch = self.stray.pop(data.draw(st.integers(0, len(self.stray) - 1)))
        self.log.extend(batch)

    @precondition(lambda self: self.log)
    @rule(count=COUNT)
    def lose_the_end(self, count: int) -> None:
        """Connections break with it: batches on their way are gone, the leader starts anew."""
        del self.log[-count:]
        self.stray.clear()
        for relay in (self.leader, *self.zombies):
            relay.in_flight = range(0)
        self.resume(self.leader)
        self.stored = self.offset = 0 if self.stored > len(self.log) else self.stored

    @rule(records=st.integers(1, 20))
    def consume(self, records: int) -> None:
        """The consumer reads on."""
        for _ in range(records):
            if self.offset >= len(self.log) or not self.read(self.log[self.offset]):
                return
            self.offset += 1

    @rule()
    def restart_the_consumer(self) -> None:
        """It seeks to the offset that was committed."""
        self.offset = self.stored

    def one(self, who: int) -> Relay:
        """Return the leader or a zombie."""
        return self.leader if who < 3 or not self.zombies else self.zombies[who % len(self.zombies)]

    @invariant()
    def applied_once_in_order(self) -> None:
        """Whatever happened: each number once, in order."""
        assert self.applied == list(range(1, self.number + 1))

    def teardown(self) -> None:
        """Faults end, the leader goes on: everything arrives."""
        for batch in (*self.stray, self.leader.in_flight):
            self.log.extend(batch)
        if self.leader.in_flight:
            self.leader.acknowledged = self.leader.in_flight[-1]
        while batch := self.leader.next_batch(5):
            self.log.extend(batch)
            self.leader.acknowledged = batch[-1]
        while self.offset < len(self.log) and self.read(self.log[self.offset]):
            self.offset += 1
        assert self.number == self.made, f"stuck at {self.number} of {self.made}: {self.log}"
