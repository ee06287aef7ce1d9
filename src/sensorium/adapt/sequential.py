"""Tests that may be looked at after every person: of a difference, and of shares that do not come true.

**Source** Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences":
theorem 4 (empirical Bernstein) with the gamma-exponential mixture (proposition 9), applied as in their section on
treatment effects; Lindon & Malek 2022, "Anytime-valid inference for multinomial count data".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln


def log_mixture(s: float | np.ndarray, v: float | np.ndarray, rho: float, scale: float) -> np.ndarray:
    """The log of ∫ exp(λs − ψ(λ)v) dF(λ), ψ(λ) = (−ln(1 − cλ) − cλ) ÷ c², 1 − cλ gamma-distributed within (0, 1).

    A supermartingale that begins at 1, where s is a sum of X − E X, and v one of (X − guess)², with |X − guess| ≤ c
    and every guess made beforehand. So at any time, with probability 1 − α, it stays below 1 ÷ α for ever. −inf (which is
    still valid) for sums too far below zero for the closed form.
    """
    s, v = np.asarray(s, float), np.asarray(v, float)
    r, square = rho / scale**2, scale**2
    shape, rate = (v + rho) / square, (scale * s + v + rho) / square
    good = rate > 1e-9
    rate = np.where(good, rate, 1.0)
    begin = r * math.log(r) - gammaln(r) - math.log(gammainc(r, r))
    with np.errstate(divide="ignore"):
        value = begin + gammaln(shape) + np.log(gammainc(shape, rate)) - shape * np.log(rate) + rate - r
    return np.where(good, value, -np.inf)


def tuned_rho(v: float, alpha: float) -> float:
    """The width of the mixture that makes the bound tightest at variance `v`, for one side with `alpha`."""
    log = 2 * math.log(1 / min(2 * alpha, 0.999))
    return v / (log + math.log1p(log))


@dataclass
class Segment:
    """People of two arms under one propensity of the treated. `total`: Σ effect, `spread`: Σ (effect − guess)²."""

    share: float
    people: int = 0
    total: float = 0.0
    spread: float = 0.0


@dataclass
class Difference:
    """The difference of two means of outcomes in [0, 1], by people who were assigned by chance.

    Each person gives effect = (ŷ₁ − ŷ₀) ± (y − ŷ) ÷ the chance of their arm, whose mean is the difference whatever ŷ is
    (a mean over those before, so it is a guess made beforehand). No assumption on distributions, no least number of
    people. Where the propensity changes, a new segment begins, and evidence is multiplied.
    """

    alpha: float = 0.05
    plan: int = 5_000  # people at whose count the bound is tightest; it holds at every other
    count: list[int] = field(default_factory=lambda: [0, 0])
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    segments: list[Segment] = field(default_factory=list)

    def add(self, treated: bool, outcome: float, share: float) -> None:
        """One more person; `share` is the chance with which one of these two arms became the treated one."""
        if not self.segments or abs(self.segments[-1].share - share) > 1e-9:
            self.segments.append(Segment(share))
        pooled = (sum(self.sums) + 0.5) / (sum(self.count) + 1)
        guess = [(self.sums[arm] + pooled) / (self.count[arm] + 1) for arm in (0, 1)]
        off = (outcome - guess[1]) / share if treated else -(outcome - guess[0]) / (1 - share)
        last = self.segments[-1]
        last.people += 1
        last.total += guess[1] - guess[0] + off
        last.spread += off * off
        self.count[treated] += 1
        self.sums[treated] += outcome

    @property
    def estimate(self) -> float:
        """The mean effect of a person; 0 before the first."""
        people = sum(one.people for one in self.segments)
        return sum(one.total for one in self.segments) / people if people else 0.0

    def evidence(self, difference: float, sign: float = 1.0) -> float:
        """The log of the e-value against "the difference is at most this" (`sign` −1: at least)."""
        return float(sum(self._one(part, difference, sign) for part in self.segments))

    def interval(self) -> tuple[float, float]:
        """Bounds that hold at all times together with probability 1 − α. **Cost** some forty evaluations."""
        return self._bound(1.0), -self._bound(-1.0)

    def _bound(self, sign: float) -> float:
        need = math.log(2 / self.alpha)

        def beyond(at: float) -> float:
            return max(min(self.evidence(sign * at, sign) - need, 1e6), -1e6)

        if not self.segments or beyond(-1.0) < 0:
            return -1.0
        return 1.0 if beyond(1.0) > 0 else float(brentq(beyond, -1.0, 1.0, xtol=1e-7))

    def _one(self, part: Segment, difference: float, sign: float) -> float:
        scale = 1 / min(part.share, 1 - part.share)
        rho = tuned_rho(0.1 * self.plan * (1 / part.share + 1 / (1 - part.share)), self.alpha / 2)
        return float(log_mixture(sign * (part.total - part.people * difference), part.spread, rho, scale))


def mismatch(counts: Mapping[str, int], shares: Mapping[str, float], strength: float = 100.0) -> float:
    """The log of the e-value against "people come in these shares"; above ln(1000) something loses or invents people.

    The prior of the alternative is a Dirichlet around the shares, with `strength` people behind it.
    """
    names = [name for name, share in shares.items() if share > 0]
    whole = sum(shares[name] for name in names)
    expected = np.array([shares[name] / whole for name in names])
    seen = np.array([counts.get(name, 0) for name in names])
    prior = strength * expected
    value = gammaln(strength) - gammaln(strength + seen.sum()) + (gammaln(prior + seen) - gammaln(prior)).sum()
    return float(value - (seen * np.log(expected)).sum())
