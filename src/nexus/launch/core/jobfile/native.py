"""Our own dialect: nothing to translate."""

from __future__ import annotations

from nexus.launch.core.jobfile.dialects import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields


class Native:
    """`run`, `resources`, and a section for the kind."""

    marks = frozenset({"kind", "run", "setup", "resources", "nodes", "roles", "name", "retry", "train", "federate"})

    def translate(self, tree: Fields, file: str) -> Translation:
        entries = {key: entry for key, entry in tree.entries.items() if key != "dialect"}
        return Translation(Fields(tree.place, entries, dict(tree.keys)))


DIALECT: Dialect = Native()
