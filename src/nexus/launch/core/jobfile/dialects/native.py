"""Our own dialect: nothing to translate."""

from __future__ import annotations

from nexus.launch.core.jobfile.translation import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields
from nexus.launch.core.jobkind import KINDS
from nexus.launch.core.spec import JobSpec


class Native:
    """`run`, `resources`, and a section for the kind."""

    marks = frozenset({*JobSpec.model_fields, *KINDS} - {"sections", "warnings"})

    def translate(self, trees: list[Fields], file: str) -> list[Translation]:
        return [Translation(_without_dialect(tree)) for tree in trees]


def _without_dialect(tree: Fields) -> Fields:
    entries = {key: entry for key, entry in tree.entries.items() if key != "dialect"}
    return Fields(tree.place, entries, dict(tree.keys))


DIALECT: Dialect = Native()
