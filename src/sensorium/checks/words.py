"""The demo world's words: a small grammar in English and Chinese in which theme, mood and colour can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Language = Literal["en", "zh"]

THEMES = ("train", "sea", "mountain", "city", "forest", "desert")
MOODS = ("calm", "lively", "stormy")
COLOURS = ("white", "red", "blue", "green", "gold")

# Where several words stand, one is drawn; no word of a line stands in another line of its table.
_THEME_WORDS: dict[Language, dict[str, Sequence[str]]] = {
    "en": {
        "train": (
            "a train on old rails",
            "the night express",
            "a railway journey",
            "a steam locomotive and its wagons",
        ),
        "sea": ("the sea and a small sailing boat", "waves on the shore", "an ocean crossing", "boats in the harbour"),
        "mountain": ("a high mountain", "the summit above the valley", "a climb over rocky peaks", "alpine cliffs"),
        "city": (
            "the city and its towers",
            "streets full of windows",
            "downtown buildings",
            "a skyline of skyscrapers",
        ),
        "forest": ("a deep forest", "a path between the trees", "pines and old oaks", "the woods and their birds"),
        "desert": ("the desert and its dunes", "sand as far as one sees", "a caravan past the cactus", "dry dunes"),
    },
    "zh": {
        "train": ("旧铁轨上的火车", "夜行列车", "一次铁路旅行", "蒸汽机车和它的车厢"),
        "sea": ("大海和一只小帆船", "拍打海岸的海浪", "横渡大洋", "港口里的船"),
        "mountain": ("一座高山", "山谷之上的顶峰", "攀登岩石山峰", "阿尔卑斯的山崖"),
        "city": ("城市和高楼", "布满窗户的街道", "市中心的大厦", "摩天大楼的天际线"),
        "forest": ("幽深的森林", "林间小路", "松树和老橡树", "树林和林中的鸟"),
        "desert": ("沙漠和沙丘", "一望无际的沙子", "走过仙人掌的骆驼商队", "干燥的沙丘"),
    },
}
_MOOD_WORDS: dict[Language, dict[str, Sequence[str]]] = {
    "en": {
        "calm": ("slow and quiet", "peaceful and still", "gentle and restful"),
        "lively": ("fast and cheerful", "playful and full of life", "merry and quick"),
        "stormy": ("dark and stormy", "wild with thunder and rain", "gloomy and restless"),
    },
    "zh": {
        "calm": ("缓慢而安静", "平和宁静", "温柔舒缓"),
        "lively": ("轻快欢乐", "活泼热闹", "欢快有生气"),
        "stormy": ("黑暗的暴风雨", "雷雨交加", "阴沉不安"),
    },
}
_COLOUR_WORDS: dict[Language, dict[str, Sequence[str]]] = {
    "en": {
        "white": ("white snow", "snow falling"), "red": ("red evening light", "a crimson glow"),
        "blue": ("blue air", "a deep blue light"), "green": ("green light", "fresh green"),
        "gold": ("golden light", "a yellow sun"),
    },
    "zh": {
        "white": ("白雪", "飘落的雪"), "red": ("红色的晚霞", "绯红的光"), "blue": ("蓝色的空气", "深蓝的光"),
        "green": ("绿色的光", "清新的绿意"), "gold": ("金色的光", "黄色的太阳"),
    },
}  # fmt: skip
_KIND_WORDS: dict[Language, dict[str, Sequence[str]]] = {
    "en": {
        "postcard": ("a postcard", "a picture"), "song": ("a tune", "a piece of music"),
        "film": ("a short film", "a moving picture"), "journey": ("a travel story", "a day out"),
    },
    "zh": {
        "postcard": ("一张明信片", "一幅画"), "song": ("一支曲子", "一段音乐"),
        "film": ("一部短片", "一段影像"), "journey": ("一篇游记", "一日行程"),
    },
}  # fmt: skip
_TITLES: dict[Language, Sequence[str]] = {
    "en": ("{Theme}", "{Theme}, {colour}", "{Colour} and {theme}"),
    "zh": ("{theme}", "{colour}中{theme}", "{theme}与{colour}"),
}
_DESCRIPTIONS: dict[Language, Sequence[str]] = {
    "en": (
        "{Kind} of {theme}, {mood}, with {colour}.",
        "{Mood}: {kind} about {theme} in {colour}.",
        "Made for those who like {theme}. {Mood}, {colour}; {kind}.",
        "{Colour}, {theme}. {Kind} that feels {mood}.",
    ),
    "zh": (
        "{kind}：{theme}，{mood}，{colour}。",
        "{mood}的{kind}，讲的是{theme}，还有{colour}。",
        "献给喜欢{theme}的人。{mood}，{colour}；{kind}。",
        "{colour}，{theme}。这是{mood}的{kind}。",
    ),
}
_BIOS: dict[Language, Sequence[str]] = {
    "en": ("I love {theme}.", "Give me {theme}, {mood}.", "{Mood} days, and {theme}.", "Happiest with {theme}."),
    "zh": ("我喜欢{theme}。", "最爱{theme}，{mood}。", "{mood}的日子，还有{theme}。", "有{theme}就开心。"),
}
_REVIEWS: dict[Language, dict[str, Sequence[str]]] = {
    "en": {
        "good": ("Lovely: {theme}, just what I was looking for.", "{Mood}, I could stay in it for hours."),
        "middling": ("Fine, but not quite mine.", "Well made; {theme} is not my favourite."),
        "bad": ("Not for me, I do not care for {theme}.", "Too {mood} for my taste."),
    },
    "zh": {
        "good": ("太美了：{theme}，正是我想要的。", "{mood}，可以看上几个小时。"),
        "middling": ("还行，不太适合我。", "做得不错，但{theme}不是我的最爱。"),
        "bad": ("不适合我，我对{theme}没兴趣。", "对我来说太{mood}了。"),
    },
}
TAGS = {
    "train": ("rails", "travel"), "sea": ("water", "holiday"), "mountain": ("hiking", "nature"),
    "city": ("urban", "travel"), "forest": ("trees", "nature"), "desert": ("sand", "holiday"),
    "calm": ("relaxing",), "lively": ("party",), "stormy": ("dramatic",),
}  # fmt: skip


class Writer:
    """Draws phrases. The same generator state writes the same text."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def _one(self, options: Sequence[str]) -> str:
        return options[int(self._rng.integers(len(options)))]

    def _filled(self, template: str, language: Language, theme: str, mood: str, colour: str, kind: str) -> str:
        words = {
            "theme": self._one(_THEME_WORDS[language][theme]), "mood": self._one(_MOOD_WORDS[language][mood]),
            "colour": self._one(_COLOUR_WORDS[language][colour]), "kind": self._one(_KIND_WORDS[language][kind]),
        }  # fmt: skip
        return template.format(**words, **{k.capitalize(): w[0].upper() + w[1:] for k, w in words.items()})

    def title(self, language: Language, theme: str, mood: str, colour: str, kind: str) -> str:
        """A few words that name an item."""
        return self._filled(self._one(_TITLES[language]), language, theme, mood, colour, kind)

    def description(self, language: Language, theme: str, mood: str, colour: str, kind: str) -> str:
        """A sentence or two on an item."""
        return self._filled(self._one(_DESCRIPTIONS[language]), language, theme, mood, colour, kind)

    def bio(self, language: Language, theme: str, mood: str) -> str:
        """What a person says of themselves."""
        return self._filled(self._one(_BIOS[language]), language, theme, mood, "blue", "song")

    def review(self, language: Language, rating: int, theme: str, mood: str) -> str:
        """What a person says of an item they gave `rating` of five."""
        tone = "good" if rating >= 4 else "bad" if rating <= 2 else "middling"
        return self._filled(self._one(_REVIEWS[language][tone]), language, theme, mood, "blue", "song")
