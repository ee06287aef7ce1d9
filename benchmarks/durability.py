"""Kill -9 under 32 writers, 200 times: is anything lost that was acknowledged, or stored twice?

    python benchmarks/durability.py [--kills 200] [--store postgresql://…]

Writes benchmarks/results/durability.json. A third of the kills come at named points (before the commit, after it but
before anybody is told, while they are told), the others at random moments; a store is opened again after each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from sensorium.checks.kills import killed

RESULT = Path(__file__).parent / "results" / "durability.json"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=200)
    words.add_argument("--writers", type=int, default=32)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--store", default="", help="a DSN; without one, an embedded store in a temporary folder")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = given.store or Path(folder) / "log.db"
        kept = killed(where, kills=given.kills, writers=given.writers, seed=given.seed)
    figures = {"store": "postgresql" if given.store else "sqlite", "writers": given.writers, **asdict(kept)}
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))
    if kept.wrong:
        raise SystemExit(f"wrong: {kept.wrong}")


if __name__ == "__main__":
    main()
