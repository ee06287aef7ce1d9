"""The report of a small evaluation: whole, self-contained, the same each time, and true about what was ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.build import Material, learn
from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, Content, Media
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.readers import Dataset
from sensorium.data.report import Report
from sensorium.data.split import SplitSettings, split
from sensorium.data.vectors import Vectors
from sensorium.encode.run import Problem
from sensorium.evaluate.evaluation import Evaluation
from sensorium.evaluate.offline import evaluate
from sensorium.evaluate.report import report
from sensorium.fuse.concat import Concat
from sensorium.models.ease import Ease
from sensorium.models.popularity import Popularity

USERS, ITEMS = 24, 24
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
SECTIONS = ["models", "k", "knockout", "slices", "popularity", "people", "data", "protocol"]


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.depth = 0
        self.feed(page)
        self.close()
        assert self.depth == 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.depth += tag not in ("meta", "img", "br")
        self.addresses += [given[name] or "" for name in ("src", "href") if name in given]
        if tag == "section":
            self.sections.append(given["id"] or "")
        assert not [name for name in given if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1


def world(
    content: Mapping[str, Sequence[Content | None]], *, by: str = "leave-last-out", knockout: bool = True,
    vectors: bool = True, titles: Sequence[str] = (HOSTILE,) * ITEMS,
) -> tuple[Evaluation, Material]:  # fmt: skip
    """Even people take even items, odd people odd ones."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(USERS) for i in rng.permutation(np.arange(u % 2, ITEMS, 2))[:7].tolist()]
    events = Events.of(
        [u for u, _ in pairs], [i for _, i in pairs], time=range(len(pairs)), users=USERS, items=ITEMS, kinds=(HOSTILE,)
    )
    catalog = Catalog(Ids(f"i{row}" for row in range(ITEMS)), content, titles)
    values = np.eye(2, dtype=np.float32)[np.arange(ITEMS) % 2]
    present = np.arange(ITEMS) % 5 > 0
    views = {"text": Vectors(values * present[:, None], present, "t"), "image": Vectors(values, present | True, "i")}
    views = views if vectors else {}
    dataset = Dataset(catalog, None, events, Ids(map(str, range(USERS))), Report())
    problems = [Problem(HOSTILE, "image", HOSTILE, HOSTILE)]
    material = Material(dataset, views, {}, None, {}, {}, problems, [], {}, {})
    done = evaluate(
        {"ease": Ease(l2=5.0), "popularity": Popularity()}, split(events, SplitSettings(by=by)),  # type: ignore[arg-type]
        views, fusion=Concat(), learn=_plainly, catalog=catalog, knockout=knockout, rounds=50,
    )  # fmt: skip
    return done, material


def _plainly(train: Events, views: Any, people: Any, *, validation: Any, **more: Any) -> Any:
    return learn(train, views, people, validation=None, **more)  # settings as they are: nothing to tune here


def test_every_section_is_there_and_nothing_comes_from_outside(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (200, 120), (20, 120, 220)).save(tmp_path / "a.png")
    images = [Media((tmp_path / ("a.png" if row % 2 else "gone.png"),)) for row in range(ITEMS)]
    evaluation, material = world({IMAGE: images})
    page = report(evaluation, material)
    read = Reader(page)
    assert read.sections == SECTIONS
    assert all(a.startswith(("#", "data:image/jpeg;base64,")) for a in read.addresses)
    assert "script" not in read.tags
    assert 0 < read.tags.count("img") == page.count("data:image/jpeg")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page == report(evaluation, material)


def test_a_held_out_item_is_marked_exactly_where_it_was_recommended() -> None:
    evaluation, material = world({})
    first = evaluation.first
    assert first is not None
    page = report(evaluation, material)
    ranks = first.answers.ranks
    assert page.count('class="person"') == 8
    assert page.count("1 held out") == 8
    assert page.count('class="hit"') == page.count("1 of them among these")
    assert page.count('class="hit"') <= int((ranks.rank < 6.5).sum())
    assert page.count('class="hit"') > 0


@pytest.mark.parametrize("bare", ["no knockout", "no catalogue", "nothing behind it", "ids only"])
def test_what_is_not_there_is_left_out(bare: str) -> None:
    evaluation, material = world({}, knockout=False, vectors=bare != "ids only", titles=())
    assert "knockout" not in Reader(report(evaluation, material)).sections
    if bare == "no catalogue":
        assert "people" not in Reader(report(replace(evaluation, catalog=None), material)).sections
    if bare == "nothing behind it":
        left = Reader(report(replace(evaluation, first=None, slices={}), material)).sections
        assert left == ["models", "k", "data", "protocol"]
    if bare == "ids only":
        assert ">i1<" in report(evaluation, material)


def test_a_split_by_item_does_not_claim_the_whole_catalogue() -> None:
    evaluation, material = world({}, by="items", knockout=False)
    page = report(evaluation, material)
    assert "over the whole catalogue" not in page
    assert f"{evaluation.protocol['candidates']} candidates of the catalogue" in page
    whole, material = world({}, knockout=False)
    assert "over the whole catalogue" in report(whole, material)


def test_what_validation_did_not_try_stands_beside_what_it_tried() -> None:
    evaluation, material = world({}, knockout=False)
    trials = [{"name": "ease", "ndcg": 0.25, "recall": 0.5, "seconds": 1.0}]
    first = replace(evaluation.results[0], trials=trials, left_out={"ials": f"about 12 s {HOSTILE}"})
    page = report(replace(evaluation, results=[first]), material)
    assert "ials<small>left out: about 12 s" in page
    assert HOSTILE not in page


def test_every_model_is_drawn_and_timed_once() -> None:
    evaluation, material = world({}, knockout=False)
    several = [replace(evaluation.results[0], model=f"model {place}") for place in range(7)]
    page = report(replace(evaluation, results=several), material)
    assert page.count("<polyline") == 2 * 7
    assert page.count(">fit s<") == 1
    assert "most popular first</text>" in page
    assert "<caption" not in page  # the words over a table stand outside the box that rolls
