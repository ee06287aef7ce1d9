"""A page that shows a catalogue as it was read: what was taken for what, what was rejected, and a grid of pictures."""

from __future__ import annotations

from html import escape

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, VIDEO
from sensorium.data.readers import Dataset
from sensorium.data.report import Report
from sensorium.evaluate.page import cards, page, table
from sensorium.evaluate.thumbnails import Thumbnails

SHOWN = 60


def gallery(dataset: Dataset) -> str:
    """One self-contained page for `sensorium inspect --report`."""
    counts = dataset.report.counts
    names = ("items", "users", "events", "rejected", "missing")
    big = [(f"{counts.get(name, 0):,}", name) for name in names]
    return page(
        "What was read",
        "The tables as Sensorium understood them",
        [
            ("sizes", "Sizes", cards(big)),
            ("taken", "What was taken for what", taken(dataset.report)),
            ("rejected", "Rejected and missing", rejected(dataset.report)),
            ("modalities", "Modalities", modalities(dataset.catalog)),
            ("pictures", "Items", _grid(dataset.catalog)),
        ],
    )


def taken(report: Report) -> str:
    """Each column and its role."""
    rows = [
        [escape(file), escape(column), escape(role)]
        for file, columns in report.taken.items()
        for column, role in columns.items()
    ]
    return table("Columns", ("file", "column", "taken for"), rows, words=True)


def rejected(report: Report) -> str:
    """Rows that were left out, by reason and one by one, and media files that are not there."""
    reasons = [[escape(reason), f"{count:,}"] for reason, count in report.reasons.items()]
    lines = [[escape(r.file), f"{r.line:,}", escape(r.reason)] for r in report.rejected[:50]]
    gone = [[escape(m.path), escape(m.file), f"{m.line:,}"] for m in report.missing[:50]]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    found = (
        table("Why rows were rejected", ("reason", "rows"), reasons, words=True)
        + table("The first of them", ("file", "line", "reason"), lines, words=True)
        + table("Missing media", ("path", "named in", "line"), gone, words=True)
        + (f"<ul>{notes}</ul>" if notes else "")
    )
    return found or "<p>Nothing was rejected, nothing is missing.</p>"


def modalities(catalog: Catalog) -> str:
    """How many items have what."""
    rows = [
        [escape(name), f"{sum(entry is not None for entry in column):,}", f"{len(catalog):,}"]
        for name, column in catalog.content.items()
    ]
    return table("Items that have it", ("modality", "items", "of"), rows)


def _grid(catalog: Catalog) -> str:
    """Items with a picture first, then those with sound or a clip, then the rest; sound and video are named."""

    def rank(row: int) -> int:
        has = [name in catalog.content and catalog.content[name][row] is not None for name in (IMAGE, VIDEO, AUDIO)]
        return 0 if has[0] else 1 if any(has) else 2

    ranked = sorted(range(len(catalog)), key=rank)
    without = [row for row in ranked if rank(row) == 1][
        : SHOWN // 6
    ]  # a few tiles for what can only be heard or played
    rows = sorted([*[row for row in ranked if row not in set(without)][: SHOWN - len(without)], *without], key=rank)
    thumbnails = Thumbnails(catalog)
    tiles = []
    for row in rows:
        extra = " ".join(
            f'<span class="tag">{name}</span>'
            for name in (AUDIO, VIDEO)
            if name in catalog.content and catalog.content[name][row] is not None
        )
        tiles.append(f"<li>{thumbnails.html(row)}<span>{escape(catalog.title(row))} {extra}</span></li>")
    return f'<ul class="grid-pictures">{"".join(tiles)}</ul>' if tiles else ""
