"""The catalogue disturbed, to be encoded once more: so that alignment learns what a picture and a text are about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, TEXT, Content, Media, Text
from sensorium.train.augment import Augment, drop_fields


def variants(catalog: Catalog, settings: Augment, *, seed: int) -> Iterator[Catalog]:
    """The same items with their pictures cut and mirrored and fields of their texts left out, `settings.variants` times.

    Other modalities are absent. A catalogue that grows keeps the variants of its first items.
    """
    for number in range(1, settings.variants + 1):
        rng = np.random.default_rng([seed, number])
        content: dict[str, list[Content | None]] = {}
        if IMAGE in catalog.content:
            content[IMAGE] = [
                replace(one, variant=number) if isinstance(one, Media) else None for one in catalog.content[IMAGE]
            ]
        if TEXT in catalog.content:
            content[TEXT] = [
                drop_fields(one, settings.fields, rng) if isinstance(one, Text) else None
                for one in catalog.content[TEXT]
            ]
        if content:
            yield Catalog(catalog.ids, content)
