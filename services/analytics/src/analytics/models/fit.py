"""`python -m analytics.models.fit`: one model run per process, JSON in and out.

Input {"customers": [[x, t_x, T, count], …], "individual": [x, t_x, T] or null, "weeks": n}, in
weeks; output the parameters and what they say of the individual, or {"unknown": reason}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from analytics.models import bgnbd


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Fit BG/NBD and look at one customer, when one is named."""
    try:
        fit = bgnbd.fit(question["customers"])
        found: dict[str, Any] = {
            **asdict(fit.parameters),
            "log_likelihood": fit.log_likelihood,
            "customers": fit.customers,
        }
        if question.get("individual"):
            customer = bgnbd.Customers.of([question["individual"]])
            weeks = float(question["weeks"])
            alive = bgnbd.probability_alive(fit.parameters, customer)
            expected = bgnbd.expected_purchases(fit.parameters, customer, weeks)
            found |= {
                "probability_alive": float(alive[0]),
                "expected_purchases": float(expected[0]),
                "weeks": weeks,
            }
    except bgnbd.FitError as error:
        return {"unknown": str(error)}
    return found


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
