"""Environments of the libraries that benchmarks compare with: one each, made on first use, so that none becomes a dependency.

Run: python benchmarks/peers.py [NAME …]     makes them ahead of time and says which version each holds.
They lie under $SENSORIUM_PEERS, or ~/.cache/sensorium/peers. A library that does not install is named, not hidden.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("SENSORIUM_PEERS", Path.home() / ".cache" / "sensorium" / "peers"))
PEERS: Mapping[str, tuple[str, ...]] = {
    "surprise": ("scikit-surprise==1.1.5",),
    "lightfm": ("lightfm-next",),
    "implicit": ("implicit==0.7.3",),
    "rectools": ("rectools[lightfm,torch]",),
    "cornac": ("cornac",),
}


class NotInstalled(RuntimeError):
    """A peer that cannot be had on this machine; the text says why."""


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment. **Raises** NotInstalled with the installer's last line."""
    folder = HOME / name
    python, mark = folder / "bin" / "python", folder / "installed"
    if mark.exists() and mark.read_text() == " ".join(PEERS[name]):
        return python
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotInstalled(f"{name}: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
    mark.write_text(" ".join(PEERS[name]))
    return python


def version_of(name: str) -> str:
    """The version that is installed there."""
    package = PEERS[name][0].split("=")[0].split("[")[0]
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python_of(name), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def ask(name: str, script: Path, request: Mapping[str, Any], *, threads: int = 2) -> dict[str, Any]:
    """Runs a script in a peer's environment: it gets the paths of a JSON request and of the JSON it must write."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(request))
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(threads)}
        subprocess.run([python_of(name), script, question, answer], check=True, env=environment)
        return dict(json.loads(answer.read_text()))


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        try:
            print(f"{name}: {version_of(name)}")
        except NotInstalled as error:
            print(error)
