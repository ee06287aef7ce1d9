"""What the command line prints: tables and a few words, from plain figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensorium.engine import Engine, Found
    from sensorium.rank.query import Ranking


FIRST = 5  # rejected rows, missing files and contents left out that a command names; the rest is counted


def done(engine: Engine, **told: Any) -> None:
    """The last line of --json."""
    told["problems"] = [str(problem) for problem in engine.problems]
    print(json.dumps({"stage": "done", **told}, ensure_ascii=False))


def training(summary: dict[str, Any]) -> None:
    """What was read and encoded, what validation tried, and what was kept."""
    sizes = summary["sizes"]
    print(
        f"{sizes['items']:,} items, {sizes['users']:,} people, {sizes['events']:,} events; "
        f"{summary['rejected']:,} rows rejected"
    )
    encoded(summary["modalities"], summary["problems"])
    if summary["trials"]:
        table = _table("recommender", "ndcg@10 (validation)", "recall@10 (validation)")
        for trial in summary["trials"]:
            table.add_row(trial["name"], f"{trial['ndcg']:.4f}", f"{trial['recall']:.4f}")
        _show(table)
    untried(summary.get("left_out", {}))
    print(f"{'kept' if summary['trials'] else 'recommender'}: {summary['recommender']}")


def encoded(modalities: Mapping[str, Mapping[str, int]], problems: Sequence[object]) -> None:
    """How many items have each modality, and what could not be encoded."""
    for modality, share in modalities.items():
        print(f"  {modality:<12} {share['present']:>7,} of {share['of']:,} items, {share['computed']:,} newly encoded")
    left_out(problems)


def left_out(problems: Sequence[object]) -> None:
    """The first contents that could not be encoded, and how many more there are."""
    for problem in problems[:FIRST]:
        print(f"  left out: {problem}")
    if len(problems) > FIRST:
        print(f"  left out: and {len(problems) - FIRST:,} more")


def untried(members: Mapping[str, str]) -> None:
    """What validation did not try, and why."""
    for name, reason in members.items():
        print(f"left out: {name}: {reason}")


def reading(report: Mapping[str, Any], look: str, *, columns: bool = False, most: int = FIRST) -> None:
    """What reading found, of `Report.plain()`: with `columns` what each was taken for; what was rejected; what is missing.

    `look` is the command that shows the rest.
    """
    if columns:
        for file, taken in report["taken"].items():
            print(f"{Path(file).name}: " + "; ".join(f"{column} is {role}" for column, role in taken.items()))
    reasons = report["reasons"]
    for reason, count in reasons.items():
        print(f"rejected {_rows(count)}: {reason}")
    for row in report["rejected"][:most]:
        print(f"  {row['file']}, line {row['line']}: {row['reason']}")
    _more(sum(reasons.values()) - most, look)
    gone = report["counts"].get("missing", len(report["missing"]))
    if gone:
        print(f"missing {gone:,} media {'file' if gone == 1 else 'files'}")
    for entry in report["missing"][:most]:
        print(f"  missing: {entry['path']} ({entry['file']}, line {entry['line']})")
    _more(gone - most, look)
    for note in report["notes"]:
        print(f"note: {note}")


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _more(count: int, look: str) -> None:
    if count > 0:
        print(f"  and {count:,} more; see: {look}")


def ranking(found: Ranking, explain: bool, *, notes: bool = True) -> None:
    """The recommended items, with the reasons where they were asked for."""
    table = _table("", "item", "title", "score", *(["because of"] if explain else []))
    for place, entry in enumerate(found.items, 1):
        row = [str(place), entry.item, entry.title, f"{entry.score:.3f}"]
        if explain:
            parts = [
                f"{part.amount:+.3f} {part.source}"
                + (f": {part.kind} {part.title}" if part.item else " (other events)")
                for part in entry.reasons[:4]
            ]
            rest = entry.score - sum(part.amount for part in entry.reasons[:4])
            row.append("\n".join([*parts, f"{rest:+.3f} the rest"]))
        table.add_row(*row)
    _show(table)
    for note in found.notes if notes else ():
        print(f"note: {note}")


def versions(present: str, held: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> None:
    """A run's versions, oldest first; `→` marks the one that answers."""
    import time

    table = _table("", "version", "made", "by", "from", "state", "ndcg, before → now", "")
    for line in lines:
        ndcg = line["figures"].get("ndcg")
        state = line["state"] if line["kept"] or line["state"] == "refused" else f"{line['state']}, removed"
        table.add_row(
            "→" if line["name"] == present else "", line["name"] or "–",
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(line["made"])), line["why"], line["of"], state,
            f"{ndcg['present']:.4f} → {ndcg['candidate']:.4f}" if ndcg else "", "; ".join(line["reasons"]),
        )  # fmt: skip
    _show(table)
    if held is not None:
        print(f"none is learnt by itself: {held['why']}; learn on with:  sensorium refresh RUN")


def search(found: Sequence[Found]) -> None:
    """What a search found, and by which modality."""
    table = _table("", "item", "title", "found by", "nearness")
    for place, entry in enumerate(found, 1):
        table.add_row(str(place), entry.item, entry.title, entry.by, f"{entry.score:.2f}")
    _show(table)


def evaluation(figures: dict[str, Any], *, notes: bool = True) -> None:
    """The main metrics of each model, with half the width of their intervals; as notes, what was not tried."""
    names = ("recall@10", "recall@20", "ndcg@10", "mrr@10", "coverage@10")
    table = _table("model", *names, "fit s")
    for result in figures["results"]:
        cells = []
        for name in names:
            value, interval = result["metrics"].get(name), result.get("intervals", {}).get(name)
            half = f" ±{(interval[1] - interval[0]) / 2:.4f}" if interval else ""
            cells.append("–" if value is None else f"{value:.4f}{half}")
        table.add_row(result["model"], *cells, f"{result['fit_seconds']:.1f}")
    _show(table)
    for result in figures["results"] if notes else ():
        untried(result.get("left_out", {}))


def tuning(found: dict[str, Any], *, notes: bool = True) -> None:
    """What each search began with and what it found, on validation; `→` marks what was chosen, a note says why."""
    table = _table("", "recommender", "plain", "tuned", "trials", "stopped early", "settings")
    for one in found["tried"]:
        numbers = [f"{one[name]:.4f}" for name in ("plain", "tuned")]
        mark = "→" if one["name"] == found["chosen"] else ""
        table.add_row(
            mark, one["name"], *numbers, str(one["finished"] + one["pruned"]), str(one["pruned"]), one["settings"]
        )
    if found["blend"] is not None:
        mark = "→" if found["chosen"] == "blend" else ""
        table.add_row(mark, "blend", "", f"{found['blend']:.4f}", "", "", "of all")
    _show(table)
    if notes:
        untried(found["left_out"])
        if found["waiting"]:
            print(f"{found['waiting']:,} trials were not begun within the time; the same command goes on")
        print(f"chosen: {found['chosen']}, NDCG@10 {found['ndcg']:.4f} on validation, {found['why']}")
        print(f"  {found['recommender']}")


def inspection(report: dict[str, Any], look: str) -> None:
    """What was read, what each column was taken for, what was rejected and what is missing."""
    print("  ".join(f"{name}: {count:,}" for name, count in report["counts"].items()))
    table = _table("file", "column", "taken for")
    for file, columns in report["taken"].items():
        for column, role in columns.items():
            table.add_row(Path(file).name, column, role)
    _show(table)
    reading(report, look, most=20)


def experiments(found: Sequence[Mapping[str, Any]], bandits: Sequence[Mapping[str, Any]]) -> None:
    """Each experiment's arms with the bounds of what they change, each bandit's with the chance they are shown by."""
    if not found and not bandits:
        print("nothing is tried here; begin with: POST /v1/experiments, or /v1/bandits")
    for one in found:
        verdict = one["verdict"]
        state = one["why"] or (verdict and verdict["is"]) or "running"
        print(f"{one['name']}: {state}; {one['waiting']:,} people are still within their time")
        if one["mismatch"]["alarm"]:
            print("  people do not come in the shares that were set: these figures are not to be trusted")
        table = _table("arm", "share", "people", "mean", "difference", f"bounds at {1 - one['alpha']:.0%}")
        for arm in one["arms"]:
            compared = "difference" in arm
            table.add_row(
                arm["name"], f"{arm['share']:g}", f"{arm['people']:,}", "–" if arm["mean"] is None else f"{arm['mean']:.4f}",
                f"{arm['difference']:+.4f}" if compared else "control",
                f"{arm['lower']:+.4f} … {arm['upper']:+.4f}" if compared else "",
            )  # fmt: skip
        _show(table)
    for one in bandits:
        print(f"{one['name']}: a bandit, an outcome counts half after {one['half_life_days']:g} days")
        table = _table("arm", "settled", "mean", "shown with a chance of")
        for arm in one["arms"]:
            chance = "retired" if arm["retired"] else f"{arm['chance']:.3f} " + "█" * round(20 * arm["chance"])
            table.add_row(arm["name"], f"{arm['shown']:,}", f"{arm['mean']:.4f}", chance)
        _show(table)


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _show(table: Any) -> None:
    from rich.console import Console

    # Titles are printed as they are written: "Song [live]" is no markup, ":smile:" no emoji.
    width = None if sys.stdout.isatty() else 110
    Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False).print(table)
