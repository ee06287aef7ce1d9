"""How long the command line takes to say what it can do, and the library to be imported: medians of five fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

OUT = Path(__file__).parent / "results" / "startup.json"
QUESTIONS = {
    "help_seconds": ["-m", "sensorium.cli", "--help"],
    "import_seconds": ["-c", "import sensorium"],
    "import_engine_seconds": ["-c", "import sensorium.engine"],
    "python_alone_seconds": ["-c", "pass"],
}
HEAVY = ("torch", "onnxruntime", "transformers", "faiss", "implicit", "polars", "pyarrow", "av", "PIL", "soundfile")


def median_seconds(words: list[str]) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken), 3)


def main() -> None:
    figures: dict[str, object] = {name: median_seconds(words) for name, words in QUESTIONS.items()}
    for module in ("sensorium", "sensorium.cli", "sensorium.engine"):
        code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
        figures[f"heavy_with_{module}"] = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
