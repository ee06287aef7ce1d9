"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[Path | None, typer.Argument(help="A recipe (TOML), or nothing where tables are given.")]
RunArgument = Annotated[Path, typer.Argument(help="The folder of a trained run.")]
Items = Annotated[list[Path] | None, typer.Option(help="Tables of items: CSV, TSV, JSON Lines, Parquet (.gz, .zst).")]
Events = Annotated[list[Path] | None, typer.Option(help="Tables of events: who did what with which item, and when.")]
Users = Annotated[list[Path] | None, typer.Option(help="Tables of people: a bio, an avatar, an age.")]
TrainFile = Annotated[list[Path] | None, typer.Option("--train", help="Events to learn from (with --test).")]
ValidFile = Annotated[list[Path] | None, typer.Option("--valid", help="Events to choose settings on.")]
TestFile = Annotated[list[Path] | None, typer.Option("--test", help="Events to foretell.")]
SplitOption = Annotated[
    str | None,
    typer.Option(help="leave-last-out, time, random, items or given \\[default: the recipe's, or leave-last-out]."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where encodings are kept \\[default: $SENSORIUM_CACHE or ~/.cache/sensorium]."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
JsonLines = Annotated[bool, typer.Option("--json", help="JSON on standard output instead of words.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that must be rejected.")]
Seed = Annotated[int | None, typer.Option(help="The seed of all chance \\[default: the recipe's, or 0].")]
Encode = Annotated[
    list[str] | None,
    typer.Option("--encode", help="An encoder by modality: text=minilm, image=hub:FOLDER …", metavar="MODALITY=NAME"),
]
