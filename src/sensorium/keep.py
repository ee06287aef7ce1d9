"""The commands that carry a run elsewhere: backup and restore, export and import."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="The folder of a run.")]


def backup(run: Run, file: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write a run, its version, store and uploads, to one file; it may be served meanwhile."""
    from sensorium.backup import backup
    from sensorium.feedback.open import opened
    from sensorium.runs import current, store_of

    current(run)
    with closing(opened(store_of(run))) as store:
        told = backup(run, store, file)
    print(f"{run} is in {file}: {told['bytes']:,} bytes, every one checked when it is restored")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that sensorium backup wrote.")],
    run: Annotated[Path, typer.Argument(help="The folder to make.")],
) -> None:
    """Make a run of a backup; nothing is left of a damaged one."""
    from sensorium.backup import restore
    from sensorium.runs import store_of

    restore(file, run, store_of(run))
    print(f"{file} is the run {run}.  Next:  sensorium serve {run}")


def export(
    run: Run, folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
) -> None:  # fmt: skip
    """Write items, people, events, journals and the names of keys as tables, and uploaded media beside them."""
    from sensorium.exporting import exported
    from sensorium.feedback.open import opened
    from sensorium.runs import current, store_of

    current(run)
    with closing(opened(store_of(run))) as store:
        counts = exported(run, store, folder, form=form)
    gone = counts.pop("media missing", 0)
    print(f"{folder}: {_told(counts)}")
    if gone:
        print(f"missing {gone:,} media that came by upload; items.{form} names them as upload:…")


def import_(run: Run, folder: Annotated[Path, typer.Argument(help="What sensorium export wrote.")]) -> None:
    """Put exported tables, and the uploaded media beside them, into a run; a running service takes them up."""
    from sensorium.feedback.open import opened
    from sensorium.importing import imported
    from sensorium.runs import current, store_of
    from sensorium.snapshot import read

    version = read(current(run))
    with closing(opened(store_of(run))) as store:
        counts = imported(folder, store, version, run)
    print(f"{run}: {_told(counts)}; learn from them with:  sensorium refresh {run}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing"


def commands(app: typer.Typer) -> None:
    """Adds them to the command line."""
    for name, command, example in (
        ("backup", backup, "sensorium backup runs/movies movies.backup"),
        ("restore", restore, "sensorium restore movies.backup runs/movies2"),
        ("export", export, "sensorium export runs/movies movies --format csv"),
        ("import", import_, "sensorium import runs/movies2 movies"),
    ):
        app.command(name, epilog=f"Example:  {example}")(command)
