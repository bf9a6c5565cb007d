import pytest

from rapport import traceparent

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_round_trip() -> None:
    context = traceparent.parsed(SAMPLED)
    assert context is not None
    assert context.is_remote
    assert traceparent.formatted(context) == SAMPLED


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        "",
        "nonsense",
        SAMPLED.replace("4bf92f", "4BF92F"),
        SAMPLED[:-1],
        "ff" + SAMPLED[2:],
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_malformed_ones_name_nothing(malformed: str | None) -> None:
    assert traceparent.parsed(malformed) is None


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (SAMPLED, True),
        (SAMPLED[:-2] + "00", False),
        (SAMPLED[:-2] + "03", True),  # level 2 adds a flag for random trace ids
        (SAMPLED[:-2] + "02", False),
        (SAMPLED[:-2] + "zz", False),
        ("short", False),
        (None, False),
    ],
)
def test_the_sampled_flag_is_a_bit(text: str | None, *, sampled: bool) -> None:
    assert traceparent.is_sampled(text) is sampled


def test_a_later_version_may_carry_more() -> None:
    assert traceparent.parsed("01" + SAMPLED[2:] + "-what-comes-later") is not None
