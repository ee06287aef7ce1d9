"""Reasons of refusals, without where the file lies: the same bytes lie elsewhere, too, and whoever reads may not be of this machine."""

from __future__ import annotations

import os
import re

# Quoted: to the sign that closes it, or to the end where it was cut off. Bare: to the next space; no address of the web.
_QUOTED = re.compile(r"""(?<!\w)b?(['"])(?:file:)?/.*?(?:(?<!\\)\1(?=$|[\s;,:.)>\]])|$)""")
_BARE = re.compile(r"(?:\bfile:/|(?<![\w/.:])/)[^\s'\"]+")


def without_paths(reason: str, path: str = "") -> str:
    """The reason without this path, and without whatever else looks like the path of a file from the root.

    >>> without_paths("cannot identify image file '/srv/a b/x.png'")
    'cannot identify image file'
    >>> without_paths("Invalid data found: '/srv/x.mp4'; last error: [mov] none"), without_paths("1/2 of it, 3 / 4")
    ('Invalid data found; last error: [mov] none', '1/2 of it, 3 / 4')
    """
    if path:
        for form in (repr(path), repr(os.fsencode(path)), path):
            reason = reason.replace(form, "")
    reason = _BARE.sub("", _QUOTED.sub("", reason))
    return re.sub(r"[\s:]+(?=[;:])", "", re.sub(r"\s{2,}", " ", reason)).strip(" :;'\"")
