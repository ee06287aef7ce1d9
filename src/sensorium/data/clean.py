"""Text as people meant it: Unicode NFC, no HTML, no control characters, single spaces."""

from __future__ import annotations

import html
import re
import unicodedata

LONGEST = 100_000  # characters of one cell; no encoder reads further

_TAGS = (
    "a|abbr|article|aside|b|big|blockquote|body|br|button|center|cite|code|dd|del|details|div|dl|dt|em|embed|fieldset|"
    "figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|"
    "mark|meta|nav|object|ol|option|p|param|pre|q|s|section|select|small|source|span|strike|strong|sub|summary|sup|svg|"
    "table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|em|font|i|mark|s|small|span|strong|sub|sup|u|wbr)(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_BLOCK = re.compile(r"<(script|style)\b[^<>]*>|<!--", re.IGNORECASE)
_CLOSE = {
    "script": re.compile(r"</script\s*>", re.IGNORECASE),
    "style": re.compile(r"</style\s*>", re.IGNORECASE),
    "--": re.compile("-->"),
}
# Controls, lone surrogates, invisible marks that change no meaning; the joiners that emoji need stay.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_UNUSUAL = re.compile(r"[^\x20-\x25\x27-\x3b\x3d-\x7e]|  |^ | $")  # anything but single-spaced ASCII without & and <


def clean_text(text: str) -> str:
    """The text without markup and invisible characters; a cell longer than `LONGEST` is cut.

    >>> clean_text("Fast &amp; <b>furi</b>ous<br/>again\\x07  5 < 6")
    'Fast & furious again 5 < 6'
    >>> clean_text("e\\u0301")
    'é'
    """
    if not _UNUSUAL.search(text):
        return text[:LONGEST]
    text = text[:LONGEST]
    for _ in range(2):  # markup that was escaped once more (&lt;br&gt;) is still markup
        if "<" in text:
            text = _without_blocks(text)
            text = _TAG.sub(" ", _INLINE.sub("", text))
        if "&" not in text:
            break
        text = html.unescape(text)
    text = _CONTROL.sub("", text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def clean_id(text: str) -> str:
    """An id without surrounding space, in NFC. Nothing else: an id is not text."""
    return text if text.isascii() and text.isalnum() else unicodedata.normalize("NFC", text.strip())


def is_visible(text: str) -> bool:
    """Whether an id can be shown and typed: no control characters, no lone surrogates.

    >>> is_visible("a1"), is_visible("a\\x00")
    (True, False)
    """
    return (text.isascii() and text.isprintable()) or not _CONTROL.search(text)


def _without_blocks(text: str) -> str:
    """The text without scripts, styles and comments; one that is never closed ends the text."""
    parts, place = [], 0
    while block := _BLOCK.search(text, place):
        close = _CLOSE[(block[1] or "--").lower()].search(text, block.end())
        parts.append(text[place : block.start()] + " ")
        place = close.end() if close else len(text)
    return "".join([*parts, text[place:]])
