"""The power is cut under 32 writers: is anything lost that was acknowledged?

    sudo python benchmarks/power_cut.py [--cuts 100]

Writes benchmarks/results/power_cut.json. A store lies on an ext4 of its own (a file, mounted as a loop device), which is
shut down without flushing anything, its journal included (FS_IOC_SHUTDOWN); what was not synced is gone, as after a power
cut. Then it is mounted and opened again. The same is done with `synchronous = NORMAL`, which must lose entries, or the
cut proves nothing. Needs root; it says so and stops where it is not allowed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sensorium.checks.kills import Kept, killed, write_until_killed
from sensorium.feedback.log import Log

RESULT = Path(__file__).parent / "results" / "power_cut.json"
SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2  # FS_IOC_SHUTDOWN; EXT4_GOING_FLAGS_NOLOGFLUSH
MEGABYTES = 512


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A mounted ext4 in a file."""
    image, mounted = folder / "image", folder / "disk"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(MEGABYTES * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"power_cut: no file system can be mounted here ({error}); run it as root") from None
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


def cut(mounted: Path, process: subprocess.Popen[str]) -> None:
    """No power, for the process neither: it is stopped first, because a sync that is under way when ext4 is shut down may
    return as if it had succeeded, to whom a power cut would leave nobody to be told. Then the disk is started again."""
    process.send_signal(signal.SIGSTOP)
    handle = os.open(mounted, os.O_RDONLY)
    fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
    os.close(handle)
    process.kill()
    process.wait()
    subprocess.run(["umount", mounted], check=True)
    subprocess.run(["mount", "-o", "loop", mounted.parent / "image", mounted], check=True)


def cuts(number: int, synchronous: str) -> Kept:
    with tempfile.TemporaryDirectory() as name, disk(Path(name)) as mounted:
        command = [sys.executable, __file__, "--synchronous", synchronous, "--write"]
        return killed(
            mounted / "log.db", kills=number, points=(), command=command, strike=lambda process: cut(mounted, process)
        )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cuts", type=int, default=100)
    words.add_argument("--synchronous", default="FULL", help=argparse.SUPPRESS)
    words.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.write:
        log = Log(given.write[0])
        log._base.execute(f"PRAGMA synchronous = {given.synchronous}")
        return write_until_killed(log, *given.write[1:])
    full, normal = cuts(given.cuts, "FULL"), cuts(min(given.cuts, 20), "NORMAL")
    figures = {"full": asdict(full), "normal": asdict(normal)}
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))
    if full.wrong or not normal.lost:
        raise SystemExit(f"wrong: {full.wrong}; lost with synchronous = NORMAL: {normal.lost}")


if __name__ == "__main__":
    main()
