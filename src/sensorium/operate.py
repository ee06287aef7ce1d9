"""The commands for a run that is served: serve itself, its versions and the way back, what its experiments found."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sensorium import results, say
from sensorium.errors import RecipeError
from sensorium.options import CacheOption, JsonLines, Quiet, RunArgument


def experiments(
    run: RunArgument, report: Annotated[Path | None, typer.Option(help="The course of every difference, as one HTML page.")] = None,
    as_json: JsonLines = False,
) -> None:  # fmt: skip
    """What experiments and bandits of a service have found; their bounds hold however often one looks."""
    from sensorium.adapt.adaptive import Adaptive
    from sensorium.adapt.figures import course, learnt, told
    from sensorium.feedback.open import opened

    results.check(file=[report])
    if not (run / "log.sqlite").exists():
        raise RecipeError(f"{run}: no run with a log is here; give the folder of a run that was served")
    store = opened(run / "log.sqlite")
    try:
        adaptive = Adaptive(store)
        adaptive.look()
        found = [told(one) for one in adaptive.experiments]
        bandits = [learnt(one) for one in adaptive.bandits]
    finally:
        store.close()
    if as_json:
        print(json.dumps({"experiments": found, "bandits": bandits}, ensure_ascii=False))
    else:
        say.experiments(found, bandits)
    if report is not None:
        from sensorium.evaluate.page import figure, page

        plots = [
            (one["name"], one["name"], "".join(
                figure(f"{arm['name']} against {one['control']}", course(arm["name"], one["plot"]))
                for arm in one["arms"] if arm["name"] != one["control"]
            ))
            for one in found
        ]  # fmt: skip
        results.write(report, page("Experiments", f"{run.name}: differences of rewards a person, with bounds", plots))


def serve(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs; each is a tenant of the name of its folder.", show_default=False)] = None,
    tenants: Annotated[Path | None, typer.Option(help="A folder of runs: all in it.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; beyond loopback it asks for TLS and a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port of plain HTTP; with a certificate it stays on loopback.")] = 8087,
    tls_port: Annotated[int, typer.Option(help="The port of TLS, where there is a certificate.")] = 8443,
    key_file: Annotated[Path | None, typer.Option(help="A file of first admin keys, one a line \\[else: $SENSORIUM_API_KEY].")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS: a PEM file.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="TLS: the key of the certificate, PEM.")] = None,
    media: Annotated[Path | None, typer.Option(help="The folder in which media of new items may lie.")] = None,
    store: Annotated[str | None, typer.Option(help="Where events are: a file, or postgresql://… \\[else: $SENSORIUM_STORE; else in the run].")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes answer.")] = 1,
    worker_of: Annotated[int, typer.Option(hidden=True, help="The process that started this one.")] = 0,
    fetch: Annotated[bool, typer.Option("--fetch", help="Let a search name its picture by URL; private addresses are refused.")] = False,
    per_second: Annotated[float, typer.Option(help="Requests a second that one key may send; 0: no limit.")] = 0.0,
    tenant_per_second: Annotated[float, typer.Option(help="The same of all keys of a run.")] = 0.0,
    body_mib: Annotated[int, typer.Option(help="What a request's body may have, in MiB.", min=1, max=1024)] = 16,
    cors_origin: Annotated[list[str] | None, typer.Option(help="A web page's origin that may call, such as https://shop.example; repeat it for more.", show_default=False)] = None,
    grace: Annotated[int, typer.Option(help="Seconds to finish what was begun, once told to stop.")] = 30,
    log_level: Annotated[str, typer.Option(help="debug, info (each request), warning, error.")] = "info",
    traces: Annotated[str, typer.Option(help="Send spans there, as OTLP over HTTP \\[else: $OTEL_EXPORTER_OTLP_ENDPOINT].")] = "",
    insecure: Annotated[bool, typer.Option(help="Listen beyond loopback without TLS or without a key.")] = False,
    learn_every: Annotated[float, typer.Option(help="Seconds after which new events are learnt; 0: never by itself.", min=0)] = 300.0,
    learn_after: Annotated[int, typer.Option(help="Or sooner, after so many new events.", min=1)] = 500,
    learn_all_every: Annotated[float, typer.Option(help="Seconds after which everything is learnt anew.", min=0)] = 86_400.0,
    cache: CacheOption = None,
) -> None:  # fmt: skip
    """Answer over HTTP: recommendations, events, items, search; docs at /docs."""
    from sensorium.serve.app import Serving
    from sensorium.serve.learning import Schedule
    from sensorium.serve.run import run
    from sensorium.serve.tenants import named
    from sensorium.serve.traces import address
    from sensorium.serve.workers import netloc

    schedule = Schedule(learn_every, learn_after, learn_all_every)
    folders = named(runs or [], tenants)
    if store:
        os.environ["SENSORIUM_STORE"] = store  # for the processes that it starts, too
    if len(folders) > 1 and "{run}" not in os.environ.get("SENSORIUM_STORE", "{run}"):
        raise RecipeError("--store: several runs need a store each; write {run} where their names belong")
    if workers > 1:
        from sensorium.serve.logs import listen
        from sensorium.serve.workers import supervised

        listen(log_level)
        print(f"serving {', '.join(folders)} by {workers} processes  (stop with Ctrl-C)", flush=True)
        sys.exit(supervised(sys.argv[1:], workers, grace_seconds=grace))
    if worker_of:
        from sensorium.serve.workers import end_with

        end_with(worker_of)
    try:
        first = key_file.read_text("utf-8") if key_file else os.environ.get("SENSORIUM_API_KEY", "")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise RecipeError(f"--key-file {key_file}: cannot be read ({why})") from None
    if key_file and not first.strip():
        raise RecipeError(f"--key-file {key_file}: it is empty; make a key with: openssl rand -hex 24 > {key_file}")
    serving = Serving(
        host=host, port=port, tls_port=tls_port, certificate=certificate, private_key=private_key, media=media, fetch=fetch,
        body_bytes=body_mib << 20, per_second=per_second, tenant_per_second=tenant_per_second,
        origins=tuple(cors_origin or ()), grace_seconds=grace, log_level=log_level, traces=traces or address(os.environ), insecure=insecure, shared=worker_of > 0,
        schedule=schedule,
    )  # fmt: skip
    where = f"https://{netloc(host, tls_port)}" if certificate else f"http://{netloc(host, port)}"
    told = "" if worker_of else f"serving {', '.join(folders)} on {where}  (docs: /docs; stop with Ctrl-C)"
    run(folders, serving, cache=cache, first_key=first, told=told)


def models(run: RunArgument, as_json: JsonLines = False) -> None:
    """The versions of a run: which answers, when each was made and why, and why one was refused."""
    from dataclasses import asdict

    from sensorium.engine import Engine

    engine = Engine.open(run)
    told, kept = engine.versions(), engine.kept()
    lines = [{**asdict(one), "kept": one.name in kept} for one in told.versions]
    if as_json:
        print(json.dumps({"version": engine.version, "held": told.held, "versions": lines}, ensure_ascii=False))
        return
    say.versions(engine.version, told.held, lines)


def rollback(
    run: RunArgument,
    to: Annotated[str | None, typer.Option(help="The version to go back to \\[default: the one before].")] = None,
    quiet: Quiet = False, lines: JsonLines = False,
) -> None:  # fmt: skip
    """Go back to a version before, also where the present one cannot be opened; none is learnt until `refresh` is called."""
    from sensorium.engine import Engine
    from sensorium.errors import SnapshotError

    try:
        engine = Engine.open(run)
    except SnapshotError:
        if to is None:
            raise
        Engine.mend(run, to)
        engine, version = Engine.open(run), to
    else:
        version = engine.rollback(to)
    if lines:
        say.done(engine, version=version)
    elif not quiet:
        print(f"version {version} answers; learn on with:  sensorium refresh {run}")


def commands(app: typer.Typer) -> None:
    """Adds them to the command line."""
    for command, example in (
        (experiments, "sensorium experiments runs/movies --report look.html"),
        (serve, "SENSORIUM_API_KEY=$(openssl rand -hex 24) sensorium serve runs/movies --port 8087"),
        (models, "sensorium models runs/movies"),
        (rollback, "sensorium rollback runs/movies"),
    ):
        app.command(epilog=f"Example:  {example}")(command)
