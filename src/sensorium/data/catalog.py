"""The catalogue: rows of things with content by modality. People are a catalogue too: a bio, an avatar, an age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensorium.data.content import Content
from sensorium.data.ids import Ids
from sensorium.errors import ShapeError


@dataclass(frozen=True)
class Catalog:
    """Ids and, for each modality, one content or None a row.

    `titles` is what a report or a terminal prints for a row: never a feature.
    """

    ids: Ids
    content: Mapping[str, Sequence[Content | None]]
    titles: Sequence[str] = ()

    def __post_init__(self) -> None:
        for modality, column in self.content.items():
            if len(column) != len(self.ids):
                raise ShapeError(f"{modality}: {len(column)} contents for {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)

    def title(self, row: int) -> str:
        """The name to print for a row: its title, or its id."""
        try:
            return self.titles[row] or self.ids[row]
        except IndexError:  # there are none, or fewer than items
            return self.ids[row]

    def extended(self, more: Catalog) -> Catalog:
        """This catalogue, then the rows of `more` whose ids are new; a modality only one side has is None elsewhere."""
        fresh = [row for row, name in enumerate(more.ids) if name not in self.ids]
        content: dict[str, Sequence[Content | None]] = {}
        for modality in dict.fromkeys([*self.content, *more.content]):
            old = self.content.get(modality, [None] * len(self))
            new = more.content.get(modality, [None] * len(more))
            content[modality] = [*old, *(new[row] for row in fresh)]
        titles = [
            *(self.titles[row] if row < len(self.titles) else "" for row in range(len(self))),
            *(more.titles[row] if row < len(more.titles) else "" for row in fresh),
        ]
        return Catalog(self.ids.extended(more.ids), content, titles)
