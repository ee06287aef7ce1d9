"""The page of a catalogue as it was read: whole, self-contained, and not to be broken by what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, Content, Media
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.readers import Dataset
from sensorium.data.report import Missing, Rejected, Report
from sensorium.evaluate.gallery import SHOWN, gallery

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Tags must close in order; ids and addresses are kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href"):
                self.addresses.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def dataset(content: dict[str, Sequence[Content | None]], count: int, report: Report) -> Dataset:
    catalog = Catalog(Ids(f"i{row}" for row in range(count)), content, [HOSTILE] * count)
    return Dataset(catalog, None, Events.of([0], [0], users=1, items=max(count, 1)), Ids(["u"]), report)


def picture(path: Path) -> Media:
    from PIL import Image

    Image.new("RGB", (200, 120), (20, 120, 220)).save(path)
    return Media((path,))


def test_a_page_that_is_whole_and_shows_what_there_is(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    images = [picture(tmp_path / "a.png"), Media((broken,)), Media((tmp_path / "gone.png",)), None]
    report = Report(
        counts={"items": 4, "rejected": 1}, taken={"items.csv": {HOSTILE: "text"}}, reasons={HOSTILE: 1},
        rejected=(Rejected("items.csv", 7, HOSTILE),), missing=(Missing("items.csv", 3, HOSTILE),), notes=(HOSTILE,),
    )  # fmt: skip
    sound = [None, None, None, Media((tmp_path / "a.wav",))]
    page = gallery(dataset({IMAGE: images, AUDIO: sound}, 4, report))
    read = Reader(page)
    assert [name for name in read.ids if not name.endswith("-h")] == [
        "main", "sizes", "taken", "rejected", "modalities", "pictures",
    ]  # fmt: skip
    assert all(a.startswith(("#", "data:image/jpeg;base64,")) for a in read.addresses)
    assert read.tags.count("img") == 1  # the others are broken, gone or not there: a letter stands for them
    assert "script" not in read.tags
    assert ">audio</span>" in page
    assert page == gallery(dataset({IMAGE: images, AUDIO: sound}, 4, report))


def test_ids_alone_and_nothing_at_all() -> None:
    read = Reader(gallery(dataset({}, 200, Report())))
    assert read.tags.count("li") == SHOWN
    assert "pictures" not in Reader(gallery(dataset({}, 0, Report()))).ids


def test_what_can_only_be_heard_has_its_place_among_many_pictures(tmp_path: Path) -> None:
    images = [Media((tmp_path / "gone.png",))] * 100 + [None] * 20
    sounds = [None] * 100 + [Media((tmp_path / "a.wav",))] * 20
    page = gallery(dataset({IMAGE: images, AUDIO: sounds}, 120, Report()))
    assert Reader(page).tags.count("li") == SHOWN
    assert page.count(">audio</span>") == SHOWN // 6


def test_a_broken_picture_does_not_look_like_none(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = [Media((tmp_path / "broken.png",)), Media((tmp_path / "gone.png",)), None]
    assert gallery(dataset({IMAGE: images}, 3, Report())).count("its picture cannot be read") == 1
