"""BG/NBD on the published sample, its edges, and its subprocess."""

from __future__ import annotations

import asyncio
import csv
import gzip
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.models import bgnbd, runner
from analytics.models.bgnbd import Customers, FitError, Parameters

SAMPLE = Path(__file__).parent / "data" / "cdnow-sample-summary.csv.gz"
PUBLISHED = Parameters(0.2426, 4.4135, 0.7929, 2.4258)


@pytest.fixture(scope="module")
def sample() -> list[tuple[float, ...]]:
    with gzip.open(SAMPLE, "rt") as lines:
        rows = csv.DictReader(lines)
        return [(int(r["frequency"]), float(r["recency"]), float(r["T"]), 1) for r in rows]


@pytest.fixture(scope="module")
def fitted(sample: list[tuple[float, ...]]) -> bgnbd.Fit:
    return bgnbd.fit(sample)


def test_the_published_parameters_come_out(fitted: bgnbd.Fit) -> None:
    p = fitted.parameters
    assert round(p.r, 4) == 0.2426
    assert round(p.alpha, 4) == 4.4135
    assert round(p.a, 4) == 0.7929
    assert round(p.b, 4) == 2.4258
    assert round(fitted.log_likelihood, 2) == -9582.43
    assert fitted.customers == 2357


def test_the_published_individual_comes_out(fitted: bgnbd.Fit) -> None:
    customer = Customers.of([(2, 30.43, 38.86)])
    expected = bgnbd.expected_purchases(fitted.parameters, customer, 39)
    alive = bgnbd.probability_alive(fitted.parameters, customer)
    assert round(float(expected[0]), 4) == 1.2259
    assert round(float(alive[0]), 4) == 0.7266


def test_equal_customers_may_be_given_as_one_row_with_a_count(
    sample: list[tuple[float, ...]], fitted: bgnbd.Fit
) -> None:
    counts: dict[tuple[float, ...], int] = {}
    for x, recency, age, _ in sample:
        counts[x, recency, age] = counts.get((x, recency, age), 0) + 1
    again = bgnbd.fit([(*row, n) for row, n in counts.items()])
    assert again.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-6)
    assert again.parameters.alpha == pytest.approx(fitted.parameters.alpha, rel=1e-4)


def test_thousands_of_purchases_keep_the_likelihood_finite() -> None:
    values = bgnbd.log_likelihood(PUBLISHED, Customers.of([(2000, 38, 38.86), (20_000, 38, 39)]))
    assert all(math.isfinite(value) for value in values)


def test_who_never_came_back_is_alive_by_definition() -> None:
    assert bgnbd.probability_alive(PUBLISHED, Customers.of([(0, 0, 38.86)]))[0] == 1


@given(st.integers(1, 300), st.floats(0.01, 200), st.floats(0, 200), st.floats(0.1, 100))
def test_expectations_stay_within_reason(
    x: int, recency: float, silence: float, weeks: float
) -> None:
    customer = Customers.of([(x, recency, recency + silence)])
    alive = float(bgnbd.probability_alive(PUBLISHED, customer)[0])
    expected = float(bgnbd.expected_purchases(PUBLISHED, customer, weeks)[0])
    rate = (PUBLISHED.r + x) / (PUBLISHED.alpha + recency + silence)
    assert 0 <= alive <= 1
    assert -1e-9 <= expected <= rate * weeks + 1e-6


customers_seen = st.tuples(st.integers(1, 40), st.floats(0.1, 60), st.floats(0, 60)).map(
    lambda c: (c[0], c[1], c[1] + c[2])
) | st.floats(0, 60).map(lambda age: (0, 0.0, age))
parameters = st.builds(Parameters, *[st.floats(0.05, 20)] * 4)


@given(customers_seen, parameters)
def test_the_gradient_is_that_of_the_likelihood(
    seen: tuple[int, float, float], at: Parameters
) -> None:
    customer = Customers.of([seen])
    exact = bgnbd.gradient(at, customer)[:, 0]
    for n, name in enumerate(bgnbd.NAMES):
        step = 1e-5 * getattr(at, name)
        above, below = (replace(at, **{name: getattr(at, name) + d}) for d in (step, -step))
        rise = bgnbd.log_likelihood(above, customer) - bgnbd.log_likelihood(below, customer)
        assert exact[n] == pytest.approx(float(rise[0]) / (2 * step), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no customers"),
        ([(0, 0, 10, 50)], "no repeat purchases"),
        ([(0, 0, 0, 1)], "no repeat purchases"),
        ([(1, 2, 10, 50)], "not identified"),
        ([(5, 9.9, 10, 100)], "not identified"),
        ([(1, 5, 3, 1)], "recency: not within"),
        ([(0, 2, 3, 1)], "recency: 0 if and only if"),
        ([(2, 0, 3, 1)], "recency: 0 if and only if"),
        ([(1.5, 2, 3, 1)], "x: not a whole number"),
        ([(-1, 2, 3, 1)], "x: not a whole number"),
        ([(1, math.nan, 3, 1)], "finite"),
        ([(1, 2, math.inf, 1)], "finite"),
        ([(1, 2, 3, 0)], "count"),
    ],
)
def test_input_that_determines_nothing_is_refused_with_the_reason(
    rows: list[tuple[float, ...]], reason: str
) -> None:
    with pytest.raises(FitError, match=reason):
        bgnbd.fit(rows)


async def test_the_subprocess_gives_what_the_model_gives(
    sample: list[tuple[float, ...]], fitted: bgnbd.Fit
) -> None:
    asked = {"customers": sample, "individual": (2, 30.43, 38.86), "weeks": 39}
    answered = await runner.fit(asked, 60)
    assert answered["r"] == pytest.approx(fitted.parameters.r)
    assert round(answered["expected_purchases"], 4) == 1.2259
    assert round(answered["probability_alive"], 4) == 0.7266


async def test_the_event_loop_goes_on_during_a_fit(sample: list[tuple[float, ...]]) -> None:
    fit = asyncio.create_task(runner.fit({"customers": sample, "weeks": 39}, 60))
    turns = 0
    while not fit.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await fit)["customers"] == 2357
    assert turns > 1000


async def test_an_unknown_is_answered_with_its_reason() -> None:
    assert "no customers" in (await runner.fit(runner.question([], None, 39), 60))["unknown"]


async def test_a_fit_that_takes_too_long_is_ended(sample: list[tuple[float, ...]]) -> None:
    with pytest.raises(runner.ModelFailedError, match=r"longer than 0\.01 s"):
        await runner.fit({"customers": sample, "weeks": 39}, 0.01)


async def test_a_subprocess_that_dies_is_an_error() -> None:
    with pytest.raises(runner.ModelFailedError, match="status 1"):
        await runner.fit({}, 60)


def test_days_become_weeks() -> None:
    asked = runner.question([(2, 213, 272, 5)], (2, 213, 272), 39)
    assert [round(v, 2) for v in asked["customers"][0]] == [2, 30.43, 38.86, 5]
    assert [round(v, 2) for v in asked["individual"]] == [2, 30.43, 38.86]


def test_the_service_never_imports_numpy() -> None:
    """What keeps an idle service small."""
    code = "import sys, analytics.app; sys.exit('numpy' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
