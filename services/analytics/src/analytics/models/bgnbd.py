"""BG/NBD: when customers without a contract buy, and whether they still will.

Fader, Hardie and Lee, "Counting Your Customers" the Easy Way (Marketing Science 24:2, 2005). While
active a customer buys at rate lambda ~ Gamma(r, alpha), and after each purchase drops out with
probability p ~ Beta(a, b). A customer is x repeat purchase days, the last of them t_x after the
first purchase, which was T ago; times in weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, gammaln, hyp2f1

Vector = NDArray[np.float64]

# Parameters are sought within exp(±LIMIT): an optimum at the border is none.
LIMIT = 12.0
# At an optimum no derivative of the mean log-likelihood is steeper than this.
FLAT = 1e-5
NAMES = ("r", "alpha", "a", "b")
STARTS = ((1.0, 1.0, 1.0, 1.0), (0.3, 1.0, 0.5, 3.0), (0.1, 0.1, 0.2, 0.5))


class FitError(Exception):
    """The customers do not determine the four parameters; the message says why."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """r and alpha (weeks) of the purchase rate, a and b of the drop-out probability."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Maximum-likelihood parameters."""

    parameters: Parameters
    log_likelihood: float
    customers: int


@dataclass(frozen=True, slots=True, eq=False)
class Customers:
    """x, t_x and T, and how many customers share them."""

    x: Vector
    recency: Vector
    age: Vector
    weight: Vector

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Customers:
        """Check rows of (x, t_x, T, customers) or (x, t_x, T); raises FitError."""
        if not rows:
            raise FitError("no customers: nobody has a kept purchase")
        table = np.asarray([(*row, 1.0)[:4] for row in rows], dtype=np.float64)
        customers = cls(*table.T)
        customers.check()
        return customers

    def check(self) -> None:
        """Raise FitError for values that no customer can have."""
        if not all(np.isfinite(column).all() for column in (self.x, self.recency, self.age)):
            raise FitError("customers: a value is not a finite number")
        if (self.x < 0).any() or (self.x != np.floor(self.x)).any():
            raise FitError("x: not a whole number of repeat purchases")
        if (self.recency < 0).any() or (self.recency > self.age).any():
            raise FitError("recency: not within 0 and the customer's age")
        if ((self.x == 0) != (self.recency == 0)).any():
            raise FitError("recency: 0 if and only if x is 0")
        if (self.weight <= 0).any():
            raise FitError("customers: a count is not positive")


def _mixture(p: Parameters, c: Customers) -> tuple[Vector, Vector]:
    """Return A3, still active at T, and A4, dropped out at t_x (-inf at x = 0)."""
    still = -(p.r + c.x) * np.log(p.alpha + c.age)
    repeat = np.maximum(c.x, 1.0)
    dropped = np.log(p.a) - np.log(p.b + repeat - 1) - (p.r + c.x) * np.log(p.alpha + c.recency)
    return still, np.where(c.x > 0, dropped, -np.inf)


def log_likelihood(p: Parameters, c: Customers) -> Vector:
    """Log-likelihood of each customer; finite also for thousands of purchases."""
    counts = gammaln(p.r + c.x) - gammaln(p.r) + p.r * np.log(p.alpha)
    survivals = betaln(p.a, p.b + c.x) - betaln(p.a, p.b)
    # B(a, b + x) / B(a, b) is Gamma(a + b) Gamma(b + x) / (Gamma(b) Gamma(a + b + x)).
    total: Vector = counts + survivals + np.logaddexp(*_mixture(p, c))
    return total


def probability_alive(p: Parameters, c: Customers) -> Vector:
    """Probability of being active at T; 1 at x = 0, where the model allows no drop-out."""
    still, dropped = _mixture(p, c)
    alive: Vector = expit(still - dropped)
    return alive


def expected_purchases(p: Parameters, c: Customers, weeks: float) -> Vector:
    """Expected purchases of each customer in the next `weeks` after T; raises FitError at a = 1."""
    if np.isclose(p.a, 1.0, rtol=0, atol=1e-9):
        raise FitError("a: the formula has no value at 1")
    ahead = weeks / (p.alpha + c.age + weeks)
    hyper = hyp2f1(p.r + c.x, p.b + c.x, p.a + p.b + c.x - 1, ahead)
    bought = 1 - (1 - ahead) ** (p.r + c.x) * hyper
    expected: Vector = (p.a + p.b + c.x - 1) / (p.a - 1) * bought * probability_alive(p, c)
    return expected


def gradient(p: Parameters, c: Customers) -> Vector:
    """Derivatives of `log_likelihood` by r, alpha, a and b: one row a parameter."""
    still, dropped = _mixture(p, c)
    gone = expit(dropped - still)  # the share of A4 in the mixture
    here = 1 - gone
    all_of = digamma(p.a + p.b) - digamma(p.a + p.b + c.x)
    last = gone / (p.b + np.maximum(c.x, 1.0) - 1)
    return np.stack(
        [
            digamma(p.r + c.x)
            - digamma(p.r)
            + np.log(p.alpha)
            - here * np.log(p.alpha + c.age)
            - gone * np.log(p.alpha + c.recency),
            p.r / p.alpha - (p.r + c.x) * (here / (p.alpha + c.age) + gone / (p.alpha + c.recency)),
            all_of + gone / p.a,
            all_of + digamma(p.b + c.x) - digamma(p.b) - last,
        ]
    )


def fit(rows: Sequence[Sequence[float]]) -> Fit:
    """Fit to rows of (x, t_x, T, customers), times in weeks; raises FitError."""
    customers = Customers.of(rows)
    if not (customers.x > 0).any():
        raise FitError("no repeat purchases: drop-out cannot be estimated")
    scale = float(customers.age.max())
    scaled = Customers(
        customers.x, customers.recency / scale, customers.age / scale, customers.weight
    )
    r, alpha, a, b = (float(value) for value in np.exp(_maximum(scaled)))
    parameters = Parameters(r, alpha * scale, a, b)
    total = float(customers.weight @ log_likelihood(parameters, customers))
    return Fit(parameters, total, int(customers.weight.sum()))


def _maximum(customers: Customers) -> Vector:
    """Return the logarithms of the best parameters of several starts; raises FitError."""
    shares = customers.weight / customers.weight.sum()

    def loss(logs: Vector) -> tuple[float, Vector]:
        p = Parameters(*np.exp(logs))
        value = -float(shares @ log_likelihood(p, customers))
        return value, -(gradient(p, customers) @ shares) * np.exp(logs)

    search = {
        "jac": True,
        "method": "L-BFGS-B",
        "bounds": [(-LIMIT, LIMIT)] * 4,
        "options": {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
    }
    found = [minimize(loss, np.log(start), **search) for start in STARTS]
    best: Vector = min(found, key=lambda result: float(result.fun)).x
    value, slope = loss(best)
    at_limit = np.abs(best) > LIMIT - 0.01
    if at_limit.any():
        names = ", ".join(n for n, at in zip(NAMES, at_limit, strict=True) if at)
        raise FitError(f"not identified: {names} runs to its limit; too few repeats?")
    if not np.isfinite(value) or np.abs(slope).max() > FLAT:
        raise FitError("the search did not converge")
    return best
