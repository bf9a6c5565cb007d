"""The random model holds with the product's rules, and catches each rule's absence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from rapport.messaging import tail
from rapport.messaging.position import Step, step

if TYPE_CHECKING:
    from shared.tests.stream_model import Relay

from shared.tests.stream_model import EPOCH, StreamModel

THOROUGH = settings(max_examples=150, stateful_step_count=30, deadline=None)
SEARCH = settings(
    THOROUGH,
    max_examples=3000,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class StopsOnGap(StreamModel):
    """Seeded bug: a consumer that waits at a gap instead of reading on."""

    def read(self, number: int) -> bool:
        """Stop at a gap."""
        if step(EPOCH, self.number, EPOCH, number) is Step.DISCARD:
            return False
        return super().read(number)


class ResendsOnlyWhatFailed(StreamModel):
    """Seeded bug: a relay that goes on behind a failed batch and sends that one again, later."""

    def after_error(self, relay: Relay) -> None:
        """Send the failed batch later, and go on behind it."""
        self.stray.append(relay.in_flight)
        relay.acknowledged = relay.in_flight[-1]
        relay.in_flight = range(0)


class TrustsTheLastRecord(StreamModel):
    """Seeded bug: a relay that takes Kafka's last number for everything before it."""

    def decide(self, relay: Relay, last: tail.Last) -> int:
        """Where sending goes on; a bug overrides it."""
        tail.resume_after(relay.acknowledged, (EPOCH, relay.made), last)
        return last.number


class OverlooksTheGap(StreamModel):
    """Seeded bug: a relay that does not look whether the end of the log is whole."""

    def decide(self, relay: Relay, last: tail.Last) -> int:
        """Where sending goes on; a bug overrides it."""
        whole = last._replace(reached=last.number)
        return tail.resume_after(relay.acknowledged, (EPOCH, relay.made), whole)


def test_the_product_s_rules_bring_everything_across() -> None:
    run_state_machine_as_test(StreamModel, settings=THOROUGH)


@pytest.mark.parametrize("bug", [ResendsOnlyWhatFailed])
def test_a_seeded_bug_is_caught(bug: type[StreamModel]) -> None:
    with pytest.raises(AssertionError, match="stuck at"):
        run_state_machine_as_test(bug, settings=SEARCH)


def write_behind_a_lost_end(model: StreamModel) -> None:
    """Six were acknowledged, four of them are lost, then a zombie writes the seventh and eighth."""
    zombie = 3
    model.cut(8)
    model.send(6, 0)
    model.answer(0, "acknowledged")
    model.write_mark()
    model.take_over()
    model.lose_the_end(4)
    model.send(2, zombie)
    model.answer(zombie, "acknowledged")
    assert model.log == [1, 2, 7, 8]
    model.take_over()


def test_a_gap_at_the_end_is_filled() -> None:
    model = StreamModel()
    write_behind_a_lost_end(model)
    model.teardown()


@pytest.mark.parametrize("bug", [StopsOnGap, TrustsTheLastRecord, OverlooksTheGap])
def test_a_bug_leaves_the_gap(bug: type[StreamModel]) -> None:
    model = bug()
    write_behind_a_lost_end(model)
    with pytest.raises(AssertionError, match="stuck at 2 of 8"):
        model.teardown()
