"""The command line. It speaks to the engine alone; one clear line and exit code 2 for whatever the user can mend."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sensorium import keep, operate, results, say
from sensorium.errors import RecipeError, SensoriumError
from sensorium.options import (
    CacheOption,
    Encode,
    Events,
    Items,
    JsonLines,
    Quiet,
    RecipeArgument,
    RunArgument,
    Seed,
    SplitOption,
    Strict,
    TestFile,
    TrainFile,
    Users,
    ValidFile,
)

if TYPE_CHECKING:
    from sensorium.build import Material
    from sensorium.recipe import Recipe

T = TypeVar("T")
TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"}  # what a name may end in that is no recipe

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Recommendations from text, pictures, sound, video and what people did.",
    epilog="Start with:  sensorium demo world  &&  sensorium train world/demo.toml --out runs/demo",
)  # fmt: skip


@app.command(epilog="Example:  sensorium train movies.toml --out runs/movies")
def train(
    recipe: RecipeArgument = None, out: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("runs/latest"),
    items: Items = None, events: Events = None, users: Users = None,
    model: Annotated[str | None, typer.Option(help="A recommender by name \\[default: the recipe's, or auto].")] = None,
    encode: Encode = None, seed: Seed = None, strict: Strict = False, cache: CacheOption = None, quiet: Quiet = False,
    lines: JsonLines = False,
) -> None:  # fmt: skip
    """Read, encode, fuse and learn; the run can then recommend."""
    from sensorium.engine import Engine
    from sensorium.progress import shown

    results.check(folder=out)
    asked = _recipe(
        recipe, items, events, users, model=[model] if model else [], encode=encode, seed=seed, strict=strict
    )
    with shown(quiet=quiet, lines=lines) as progress:
        engine = Engine.train(asked, out, cache=cache, progress=progress)
    summary = engine.summary()
    found = engine.report.plain()
    if engine.material is not None:
        summary["modalities"] = {**_modalities(engine.material), **summary["modalities"]}
    if lines:
        print(json.dumps({"stage": "done", "out": str(out), **summary, "read": _read(found)}, ensure_ascii=False))
    elif not quiet:
        say.reading(found, _look(recipe, items=items, events=events, users=users), columns=recipe is None)
        say.training(summary)
        print(f"The run is in {out}.  Ask it:  sensorium recommend {out} --user {summary['example_user'] or 'ID'}")


@app.command(epilog="Example:  sensorium evaluate movies.toml --json out.json --report out.html")
def evaluate(
    recipe: RecipeArgument = None, items: Items = None, events: Events = None, users: Users = None,
    train_file: TrainFile = None, valid_file: ValidFile = None, test_file: TestFile = None,
    split: SplitOption = None,
    model: Annotated[
        list[str] | None, typer.Option(help="auto, thorough (the sequence model too), or popularity, content, itemknn, ease, directed, ials, hybrid, graph, lightgcn, coldaligner, profile, sequence, lstm, ratings, blend; repeat to compare.")
    ] = None,
    knockout: Annotated[bool, typer.Option(help="Also score with each modality removed, and alone.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report here.")] = None,
    encode: Encode = None, seed: Seed = None, strict: Strict = False, cache: CacheOption = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Hold events out, learn from the rest, and measure how well the held-out ones are foretold."""
    from sensorium.build import gather
    from sensorium.engine import default_cache
    from sensorium.evaluate.run import evaluated
    from sensorium.progress import shown

    results.check(file=(json_file, report))
    asked = _recipe(
        recipe, items, events, users, model=model or [], encode=encode, seed=seed, strict=strict, split=split,
        train=train_file, valid=valid_file, test=test_file,
    )  # fmt: skip
    cache = cache or default_cache()
    with shown(quiet=quiet, lines=False) as progress:
        material = gather(asked, cache, progress=progress)
    found = material.dataset.report.plain()
    if not quiet:  # before the long part, in which it may turn out that too little was left
        look = _look(
            recipe, items=items, events=events, users=users, train=train_file, valid=valid_file, test=test_file
        )
        say.reading(found, look, columns=recipe is None)
        say.encoded(_modalities(material), material.problems)
    with shown(quiet=quiet, lines=False) as progress:
        done = evaluated(
            asked, model or [], knockout=knockout, cache=cache, material=material, progress=progress
        )  # fmt: skip
    if json_file is not None:
        results.write(json_file, json.dumps({**done.json(), "read": _read(found)}, indent=1) + "\n")
    if report is not None:
        results.write(report, done.html())
    say.evaluation(done.json(), notes=not quiet)
    if not quiet:
        for path in (json_file, report):
            if path is not None:
                print(f"wrote {path}")


@app.command(epilog="Example:  sensorium tune movies.toml --trials 40 --minutes 30 --out tuned")
def tune(
    recipe: RecipeArgument = None, items: Items = None, events: Events = None, users: Users = None,
    train_file: TrainFile = None, valid_file: ValidFile = None, test_file: TestFile = None,
    split: SplitOption = None,
    model: Annotated[
        list[str] | None, typer.Option(help="What to search: any but lstm, ratings, auto and thorough; repeatable. blend: every member, then what each counts \\[default: blend].")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials for each, counted over all calls with this folder.", min=1, max=10_000)] = 40,
    minutes: Annotated[float | None, typer.Option(help="Begin no trial any more after so many minutes, shared out evenly over what is searched; the same command goes on \\[default: no end].")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the studies and of best.toml.")] = Path("tuned"),
    encode: Encode = None, seed: Seed = None, cache: CacheOption = None, quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """Search for settings on validation, never on test; a search that was stopped goes on where it was."""
    from dataclasses import replace

    from sensorium.build import gather
    from sensorium.engine import default_cache
    from sensorium.evaluate.tuning import tune as search_settings
    from sensorium.progress import shown
    from sensorium.recipe import dump

    results.check(folder=out)
    asked = _recipe(
        recipe, items, events, users, encode=encode, seed=seed, split=split, train=train_file, valid=valid_file,
        test=test_file,
    )  # fmt: skip
    with shown(quiet=quiet, lines=lines) as progress:
        material = gather(asked, cache or default_cache(), progress=progress)
        done = search_settings(
            material, asked, out, models=model or ["blend"], trials=trials, minutes=minutes, progress=progress
        )  # fmt: skip
    best = out / "best.toml"
    results.write(best, dump(replace(asked.rooted(), recommender=done.recommender)))
    if lines:
        print(json.dumps({"stage": "done", "recipe": str(best), **done.plain()}, ensure_ascii=False))
        return
    say.tuning(done.plain(), notes=not quiet)
    if not quiet:
        print(f"wrote {best}.  Use it:  sensorium train {best} --out runs/tuned")


@app.command(epilog='Example:  sensorium recommend runs/movies --user 42 -k 10 --explain --rule "year>=1990"')
def recommend(
    run: RunArgument, user: Annotated[str | None, typer.Option(help="A person's id.")] = None,
    like: Annotated[list[str] | None, typer.Option(help="An item of this session, or 'more like this'; repeatable.")] = None,
    unlike: Annotated[list[str] | None, typer.Option(help="An item to stay away from; repeatable.")] = None,
    k: Annotated[int | None, typer.Option("-k", "--k", help="How many \\[default: the recipe's, or 10].")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="'price<=20', 'genres=Comedy|Drama', 'genres!=Horror'; repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="An item not to recommend; repeatable.")] = None,
    repeat: Annotated[
        bool | None,
        typer.Option("--repeat/--no-repeat", help="Allow what the person has already seen \\[default: the recipe's, or no]."),
    ] = None,
    diversity: Annotated[
        float | None,
        typer.Option(help="0: the best; towards 1: the more different \\[default: the recipe's, or 0].", min=0, max=1),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say which events and which modalities carried each score.")] = False,
    boost: Annotated[list[str] | None, typer.Option(help="Deviations of the scores that are added where a rule holds: 'genres=Comedy:0.5'; repeatable.", metavar="RULE:AMOUNT")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="A place for an item; repeatable.", metavar="ITEM:PLACE")] = None,
    cap: Annotated[list[str] | None, typer.Option(help="At most so many items of one value; repeatable.", metavar="ATTRIBUTE:MOST")] = None,
    exploration: Annotated[float, typer.Option(help="The share of places that chance fills.", min=0, max=1)] = 0.0,
    seed: Annotated[int, typer.Option(help="The seed of that chance.", min=0)] = 0,
    weight: Annotated[list[str] | None, typer.Option(help="How much a modality of content counts: 'image:0'; repeatable.", metavar="MODALITY:WEIGHT")] = None,
    cache: CacheOption = None, as_json: JsonLines = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """The best items for a person, a session, or somebody nobody knows."""
    engine = _open(run, cache)
    ranking = engine.recommend(
        user, k, like=like or (), unlike=unlike or (), rules=rule, exclude=exclude, repeat=repeat,
        diversity=diversity, explain=explain, boosts=_pairs(boost, "--boost", float), pins=_pairs(pin, "--pin", int),
        caps=_pairs(cap, "--cap", int), exploration=exploration, seed=seed, modalities=_pairs(weight, "--weight", float),
    )  # fmt: skip
    if as_json:
        import dataclasses

        print(json.dumps(dataclasses.asdict(ranking), ensure_ascii=False))
    else:
        say.ranking(ranking, explain, notes=not quiet)


@app.command(epilog='Example:  sensorium search runs/movies "slow train through snow"')
def search(
    run: RunArgument, words: Annotated[str, typer.Argument(help="What to look for, in words.")] = "",
    image: Annotated[Path | None, typer.Option(help="A picture to look for instead of words.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 10, cache: CacheOption = None,
    as_json: JsonLines = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Find items by words: in their text, and in their pictures, sound and video."""
    from dataclasses import asdict

    found = _open(run, cache).search(words or None, image=image, k=k)
    if as_json:
        print(json.dumps([asdict(entry) for entry in found], ensure_ascii=False))
        return
    if found or not quiet:
        say.search(found)


@app.command(epilog="Example:  sensorium add runs/movies --items new.csv")
def add(
    run: RunArgument, items: Annotated[Path, typer.Option(help="A table of new items, columns as in training.")],
    cache: CacheOption = None, quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """New items, recommendable at once from their content alone."""
    from sensorium.progress import shown

    engine = _open(run, cache)
    with shown(quiet=quiet, lines=lines) as progress:
        count = engine.add(items, progress=progress)
    everything, found = len(engine.snapshot.catalog), engine.report.plain()
    if lines:
        say.done(engine, new=count, items=everything, read=_read(found))
    elif not quiet:
        say.reading(found, _look(None, items=[items]))
        say.left_out(engine.problems)
        print(f"{count:,} new {'item' if count == 1 else 'items'}; {everything:,} in all")


@app.command(epilog="Example:  sensorium observe runs/movies --events today.csv")
def observe(
    run: RunArgument, events: Annotated[Path, typer.Option(help="A table of what people did.")], cache: CacheOption = None,
    quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """Note what people did: it counts in the next answer, and in the next refresh."""
    engine = _open(run, cache)
    count = engine.observe_table(events)
    found = engine.report.plain()
    if lines:
        say.done(engine, events=count, read=_read(found))
    elif not quiet:
        say.reading(found, _look(None, events=[events]))
        print(f"{count:,} {'event' if count == 1 else 'events'} noted; learn from them with:  sensorium refresh {run}")


@app.command(epilog="Example:  sensorium refresh runs/movies")
def refresh(
    run: RunArgument, retune: Annotated[bool, typer.Option("--retune", help="Choose all settings again.")] = False,
    cache: CacheOption = None, quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """Learn from everything observed since the last training."""
    from sensorium.progress import shown

    engine = _open(run, cache)
    with shown(quiet=quiet, lines=lines) as progress:
        count = engine.refresh(retune=retune, progress=progress)
    if lines:
        say.done(engine, events=count)
    elif not quiet:
        say.left_out(engine.problems)
        print(f"learnt from {count:,} new {'event' if count == 1 else 'events'}")


@app.command(epilog="Example:  sensorium forget runs/movies --user 42")
def forget(
    run: RunArgument, user: Annotated[str, typer.Option(help="The person to erase.")], cache: CacheOption = None,
    quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """Erase a person from the log, the tables and what was learnt."""
    from sensorium.progress import shown

    engine = _open(run, cache)
    with shown(quiet=quiet, lines=lines) as progress:
        engine.forget(user, progress=progress)
    if lines:
        say.done(engine, user=user)
    elif not quiet:
        say.left_out(engine.problems)
        print(f"{user} is forgotten; tables outside the run are yours to clean")


@app.command(epilog="Example:  sensorium inspect movies.toml --report look.html")
def inspect(
    recipe: RecipeArgument = None, items: Items = None, events: Events = None, users: Users = None,
    train_file: TrainFile = None, valid_file: ValidFile = None, test_file: TestFile = None, strict: Strict = False,
    report: Annotated[Path | None, typer.Option(help="Write a page with a grid of pictures here.")] = None,
    as_json: JsonLines = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """What was read, what it was taken for, what was rejected, and what is missing."""
    from sensorium.data.readers import read

    results.check(file=(report,))
    asked = _recipe(
        recipe, items, events, users, strict=strict, train=train_file, valid=valid_file, test=test_file
    )  # fmt: skip
    dataset = read(asked, strict=asked.strict)
    if as_json:
        print(json.dumps(dataset.report.plain(), ensure_ascii=False))
    elif not quiet:
        look = _look(
            recipe, items=items, events=events, users=users, train=train_file, valid=valid_file, test=test_file
        )
        say.inspection(dataset.report.plain(), f"{look} --json")
    if report is not None:
        from sensorium.evaluate.gallery import gallery

        results.write(report, gallery(dataset))
        if not (as_json or quiet):
            print(f"wrote {report}")


@app.command(epilog="Example:  sensorium demo world")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write the generated world.")] = Path("world"),
    seed: Annotated[int, typer.Option(help="Another seed is another world.")] = 0,
) -> None:
    """Write a small generated world with all four media, to try everything on."""
    from sensorium.checks.worlds import write_demo

    write_demo(folder, seed=seed)
    print(f"a generated world is in {folder}.  Next:  sensorium train {folder / 'demo.toml'} --out runs/demo")


operate.commands(app)
keep.commands(app)


STOPPED = 130  # the exit code after Ctrl-C


def main() -> None:
    """The entry point: errors of the user's making are one line, and leave with 2; Ctrl-C is one line, and 130."""
    try:
        code = app(prog_name="sensorium", standalone_mode=False)
        if code == STOPPED:  # typer makes an exit code of an interrupt
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except SensoriumError as error:
        print(f"sensorium: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("sensorium: stopped; finished encodings are kept, nothing half-written is left", file=sys.stderr)
        sys.exit(STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        print(f"sensorium: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # typer carries its own click, so a usage error is known by what it can do
        if not hasattr(error, "format_message"):
            raise
        _misused(error)
        sys.exit(2)


# --- what the commands share --------------------------------------------------------------------------------------


def _recipe(
    path: Path | None, items: Sequence[Path] | None, events: Sequence[Path] | None, users: Sequence[Path] | None,
    *, train: Sequence[Path] | None = None, valid: Sequence[Path] | None = None, test: Sequence[Path] | None = None,
    model: Sequence[str] = (), encode: Sequence[str] | None = None, split: str | None = None, seed: int | None = None,
    strict: bool = False,
) -> Recipe:  # fmt: skip
    """The recipe of a file, or of the tables on the command line; options given there have the last word."""
    from dataclasses import replace

    from sensorium.recipe import RECOMMENDERS, read_recipe, recipe_of
    from sensorium.settings import read_settings

    tables = {"items": items, "events": events, "users": users, "train": train, "valid": valid, "test": test}
    if path is not None and any(tables.values()):
        raise RecipeError("give a recipe, or tables, not both")
    if path is None and not (events or train or items):
        raise RecipeError("nothing to read; give a recipe, or --items FILE --events FILE")
    if path is not None:
        if {suffix.lower() for suffix in path.suffixes} & TABLES:
            raise RecipeError(f"{path}: a table, where a recipe belongs; give tables with --items FILE --events FILE")
        recipe = read_recipe(path)
        if split:
            recipe = replace(recipe, split=read_settings(type(recipe.split), {"by": split}, where="--split"))
    else:
        recipe = recipe_of(**{name: [str(f) for f in files or ()] for name, files in tables.items()}, split=split)  # type: ignore[arg-type]
    if model:
        recipe = replace(recipe, recommender=RECOMMENDERS.make(model[0], where="--model"))
    if encode:
        chosen = dict(entry.partition("=")[::2] for entry in encode)
        recipe = replace(recipe, encode={**recipe.encode, **chosen})
    return recipe.seeded(seed, strict=strict)


def _pairs(lines: Sequence[str] | None, option: str, number: Callable[[str], T]) -> dict[str, T]:
    """`NAME:NUMBER` of a repeatable option; a name may hold colons. **Raises** RecipeError."""
    out: dict[str, T] = {}
    for line in lines or ():
        name, colon, amount = line.rpartition(":")
        try:
            if not (colon and name):
                raise ValueError
            out[name] = number(amount)
        except ValueError:
            raise RecipeError(f"{option} {line!r}: write NAME:NUMBER") from None
    return out


def _look(recipe: Path | None, **tables: Sequence[Path] | None) -> str:
    """The command that shows all that reading found."""
    if recipe is not None:
        return f"sensorium inspect {recipe}"
    return " ".join(
        ["sensorium inspect", *(f"--{name} {file}" for name, files in tables.items() for file in files or ())]
    )


def _read(found: Mapping[str, Any]) -> dict[str, Any]:
    """What reading found, for a program: counts, and why how many rows were rejected; the rows are told by inspect."""
    counts = found["counts"]
    return {
        "counts": counts, "rows": found["rows"], "rejected": sum(found["reasons"].values()),
        "reasons": found["reasons"], "missing": counts.get("missing", 0), "notes": found["notes"],
    }  # fmt: skip


def _modalities(material: Material) -> dict[str, dict[str, int]]:
    """How many items have each modality; one of which no file could be read, or none is there, is listed with 0."""
    items = len(material.dataset.catalog)
    names = dict.fromkeys([*material.dataset.catalog.content, *material.views])
    have = {name: int(view.present.sum()) for name, view in material.views.items()}
    return {
        name: {"present": have.get(name, 0), "of": items, "computed": int(material.computed.get(name, 0))}
        for name in names
    }


def _misused(error: Any) -> None:
    """A usage error in one line; without any words at all it is the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "sensorium"
    told = " ".join(error.format_message().split()).rstrip(".")
    print(f"sensorium: {told}; see: {command} --help", file=sys.stderr)


def _open(run: Path, cache: Path | None) -> Any:
    from sensorium.engine import Engine

    return Engine.open(run, cache=cache)


if __name__ == "__main__":
    main()
