"""Does trying things pay, and are its figures true? Simulated people on MovieLens-100k.

Run: python benchmarks/adaptive.py [--quick] [bandit|experiments|policies|cost …]
(ten minutes on one core; --quick: a tenth of the runs, nothing is written)

A person of MovieLens meets a list of five films made by one of four arms out of the older four fifths of the ratings, and
clicks a film they liked in the newest fifth with probability .5, any other with .03; a click is the reward. So the true
worth of each arm is known. Writes benchmarks/results/adaptive.json:
`bandit`: regret a thousand answers against the best arm, where tastes stay and where they turn half way, beside fixed arms
and an even split. `experiments`: false alarms of 1,000 A/A experiments looked at after every person, of this test and of
a z-test; people until a true difference is found. `policies`: error and coverage of IPS, self-normalised IPS and doubly
robust on logs of even and of Thompson sampling. `cost`: of a request, of the journal, of a restart.
The data folder is $SENSORIUM_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.adapt.adaptive import Adaptive
from sensorium.adapt.bandit import Bandit, Learnt
from sensorium.adapt.definition import Arm
from sensorium.adapt.experiment import Experiment, Shares
from sensorium.adapt.policy import Logged, worth
from sensorium.adapt.sequential import Difference
from sensorium.feedback.log import Log

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SENSORIUM_DATA") or ROOT.parent / "shared" / "data") / "movielens-100k" / "ratings.csv"
RESULT = ROOT / "benchmarks" / "results" / "adaptive.json"
ARMS = ("ease", "popular", "random", "neighbours")
LIKED, CHANCE, LENGTH = 0.5, 0.03, 5
HOUR = 3600.0


def world() -> np.ndarray:
    """The probability of a click by person and arm (P, A)."""
    with open(DATA, newline="") as file:
        rows = [
            (row["user_id"], row["item_id"], float(row["rating"]), float(row["timestamp"]))
            for row in csv.DictReader(file)
        ]
    users = {name: place for place, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    items = {name: place for place, name in enumerate(dict.fromkeys(row[1] for row in rows))}
    rows.sort(key=lambda row: row[3])
    seen = np.zeros((len(users), len(items)), np.float32)
    liked = np.zeros((len(users), len(items)), bool)
    of: dict[str, list[tuple[str, str, float, float]]] = {}
    for row in rows:
        of.setdefault(row[0], []).append(row)
    for user, theirs in of.items():
        cut = int(0.8 * len(theirs))
        for row in theirs[:cut]:
            seen[users[user], items[row[1]]] = 1
        for row in theirs[cut:]:
            liked[users[user], items[row[1]]] = row[2] >= 4
    gram = seen.T @ seen
    inverse = np.linalg.inv(gram.astype(np.float64) + 500 * np.eye(len(items)))
    ease = -inverse / np.diag(inverse)
    np.fill_diagonal(ease, 0)
    count = np.diag(gram)
    near = gram / np.sqrt(np.outer(count, count) + 100.0)
    np.fill_diagonal(near, 0)
    scores = [seen @ ease, np.tile(count, (len(users), 1)), np.random.default_rng(0).random(seen.shape), seen @ near]
    chance = np.zeros((len(users), len(ARMS)))
    for place, score in enumerate(scores):
        score = np.where(seen > 0, -np.inf, score)
        first = np.argsort(-score, axis=1)[:, :LENGTH]
        hit = np.take_along_axis(liked, first, axis=1)
        chance[:, place] = 1 - np.where(hit, 1 - LIKED, 1 - CHANCE).prod(axis=1)
    return chance


def drawn(chances: np.ndarray, rng: np.random.Generator) -> int:
    """An arm by its chance."""
    return min(int(np.searchsorted(np.cumsum(chances), rng.random(), "right")), len(ARMS) - 1)


def lived(
    chance: np.ndarray, turned: np.ndarray | None, steps: int, half_life: float, seed: int
) -> tuple[float, float]:
    """The shortfall against the best arm of the moment, a thousand answers: of the bandit, and of an even split."""
    rng = np.random.default_rng(seed)
    one = Learnt(
        Bandit("b", tuple(Arm(f"a{n}") for n in range(len(ARMS))), half_life_days=half_life, least=0.01, seed=seed)
    )
    lost = even = 0.0
    worths = {id(table): table.mean(axis=0) for table in (chance, turned) if table is not None}
    for step in range(steps):
        now = turned if turned is not None and step >= steps // 2 else chance
        person = rng.integers(len(now))
        arm = drawn(one.chances(), rng)
        one.update(arm, float(rng.random() < now[person, arm]), HOUR / 100 * (step + 1))
        if step % 25 == 24:
            one.draw()
        means = worths[id(now)]
        lost += means.max() - means[arm]
        even += means.max() - means.mean()
    return 1000 * lost / steps, 1000 * even / steps


def bandit(chance: np.ndarray, runs: int, steps: int) -> dict[str, Any]:
    """Regret, where tastes stay and where they turn."""
    turned = chance[:, [2, 3, 0, 1]]
    told: dict[str, Any] = {"worth": dict(zip(ARMS, chance.mean(axis=0).round(4).tolist()))}
    # A step is 36 seconds: the whole is 200 hours of them, and half a day fades what was true before.
    for name, other, half_life in (
        ("stays", None, 1e6), ("stays, fading", None, 0.5), ("turns", turned, 1e6), ("turns, fading", turned, 0.5),
    ):  # fmt: skip
        found = np.array([lived(chance, other, steps, half_life, seed) for seed in range(runs)])
        told[name] = {
            "regret": round(float(found[:, 0].mean()), 2), "error": round(float(found[:, 0].std() / math.sqrt(runs)), 2),
            "even": round(float(found[:, 1].mean()), 2),
        }  # fmt: skip
    best = chance.mean(axis=0)
    told["fixed"] = {name: round(1000 * float(best.max() - one), 2) for name, one in zip(ARMS, best)}
    return told


def looked(control: np.ndarray, treated: np.ndarray, people: int, seed: int) -> tuple[int, int]:
    """After how many people zero was excluded, by this test and by a z-test looked at as often; 0: never."""
    rng, one = np.random.default_rng(seed), Difference(plan=people)
    need, found, naive = math.log(2 / one.alpha), 0, 0
    for n in range(1, people + 1):
        arm = bool(rng.random() < 0.5)
        rates = treated if arm else control
        one.add(arm, float(rng.random() < rates[rng.integers(len(rates))]), 0.5)
        if not found and max(one.evidence(0.0), one.evidence(0.0, -1.0)) >= need:
            found = n
        if not naive and n >= 100:
            part = one.segments[0]
            naive = n if abs(part.total) > 1.96 * math.sqrt(part.spread) else 0
        if found and naive:
            break
    return found, naive


def experiments(chance: np.ndarray, runs: int, people: int) -> dict[str, Any]:
    """False alarms, and how soon the truth is found."""
    same = np.array([looked(chance[:, 1], chance[:, 1], people, seed) for seed in range(runs)])
    told: dict[str, Any] = {
        "people": people, "runs": runs, "alpha": 0.05, "false_alarms": round(float((same[:, 0] > 0).mean()), 4),
        "false_alarms_z_test": round(float((same[:, 1] > 0).mean()), 4),
    }  # fmt: skip
    for name, place in (("ease", 0), ("random", 2)):
        found = np.array(
            [looked(chance[:, 1], chance[:, place], people, 10_000 + seed)[0] for seed in range(runs // 10)]
        )
        told[f"popular against {name}"] = {
            "difference": round(float(chance[:, place].mean() - chance[:, 1].mean()), 4),
            "found": round(float((found > 0).mean()), 3),
            "people": int(np.median(found[found > 0])) if (found > 0).any() else None,
        }
    return told


def logs(chance: np.ndarray, steps: int, seed: int, thompson: bool) -> Logged:
    """A log of decisions with their chances; the one feature is how much a person has liked anything."""
    rng = np.random.default_rng(seed)
    one = Learnt(Bandit("b", tuple(Arm(f"a{n}") for n in range(len(ARMS))), half_life_days=1e6, least=0.05, seed=seed))
    rows = []
    for step in range(steps):
        person, shares = (
            int(rng.integers(len(chance))),
            one.chances() if thompson else np.full(len(ARMS), 1 / len(ARMS)),
        )
        arm = drawn(shares, rng)
        reward = float(rng.random() < chance[person, arm])
        rows.append((arm, shares[arm], reward, chance[person].mean()))
        if thompson:
            one.update(arm, reward, float(step + 1))
            if step % 100 == 99:
                one.draw()
    table = np.array(rows)
    return Logged(table[:, 0].astype(int), table[:, 1], table[:, 2], table[:, 3:], np.full(steps, -1), len(ARMS))


def policies(chance: np.ndarray, runs: int, steps: int) -> dict[str, Any]:
    """Root mean squared error, bias and coverage for two targets."""
    told: dict[str, Any] = {"decisions": steps, "runs": runs}
    for way in ("even", "thompson"):
        written = [logs(chance, steps, seed, way == "thompson") for seed in range(runs)]
        for target in (1, 2):
            truth = float(chance[:, target].mean())
            found = [worth(one, np.eye(len(ARMS))[target]) for one in written]
            line: dict[str, Any] = {
                "truth": round(truth, 4),
                "effective": round(float(np.mean([f.effective for f in found]))),
            }
            for name in ("ips", "snips", "dr"):
                values = np.array([one.by[name].value for one in found])
                line[name] = {
                    "rmse": round(float(np.sqrt(((values - truth) ** 2).mean())), 5),
                    "bias": round(float(values.mean() - truth), 5),
                    "covered": round(float(np.mean([f.by[name].lower <= truth <= f.by[name].upper for f in found])), 3),
                }
            told[f"{way}: {ARMS[target]}"] = line
    return told


def cost(requests: int) -> dict[str, Any]:
    """Time of the processor: a request with a bandit and an experiment, the thread's share of it, a restart."""
    now = [1e9]
    arms = (Arm("a"), Arm("b", {"diversity": 0.5}))
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "log.sqlite")
        one = Adaptive(log, seed=0, clock=lambda: now[0])
        begin = time.process_time()
        for _ in range(100_000):
            one.plan({"user": "u"})
        idle = (time.process_time() - begin) / 100_000
        one.define(Bandit("b", arms, window_seconds=60.0))
        one.define(
            Experiment(
                "e", arms, salt="s", shares=(Shares(1e9, {"a": 1, "b": 1}),), window_seconds=60.0, horizon_seconds=600.0
            )
        )
        items = [f"item{n}" for n in range(10)]
        spent = turning = 0.0
        for n in range(requests):
            user = f"u{n % (requests // 2)}"
            begin = time.process_time()
            plan = one.plan({"user": user, "k": 10})
            assert plan is not None
            one.shown(f"r{n}", plan, user, items)
            one.happened(user, items[n % 30 % 10], "click", now[0])
            spent += time.process_time() - begin
            now[0] += 0.05
            if n % 100 == 99:
                begin = time.process_time()
                one.turn()
                turning += time.process_time() - begin
        known = []
        for _ in range(2):  # from the last checkpoint, then from the journal alone
            begin = time.process_time()
            Adaptive(log, seed=0, clock=lambda: now[0]).look()
            known.append(time.process_time() - begin)
            log.delete("adaptive", "state")
        log.close()
    return {
        "request_microseconds_idle": round(1e6 * idle, 2), "request_microseconds": round(1e6 * spent / requests, 1),
        "thread_microseconds": round(1e6 * turning / requests, 1), "restart_milliseconds": round(1e3 * known[0], 1), "replayed_lines_per_second": round(2 * requests / known[1]),
    }  # fmt: skip


def main() -> None:
    if not DATA.exists():
        print(f"adaptive: skipped, {DATA} is not there")
        return
    few = 10 if "--quick" in sys.argv[1:] else 1
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    chance = world()
    told: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() and few == 1 else {}
    for name, work in (
        ("cost", lambda: cost(20_000 // few)), ("bandit", lambda: bandit(chance, 20 // few, 20_000)),
        ("policies", lambda: policies(chance, 200 // few, 2_000)), ("experiments", lambda: experiments(chance, 1_000 // few, 2_000)),
    ):  # fmt: skip
        if wanted and name not in wanted:
            continue
        begin = time.perf_counter()
        told[name] = work() | {"seconds": round(time.perf_counter() - begin, 1)}
        print(name, json.dumps(told[name]), flush=True)
    if few == 1:
        RESULT.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
