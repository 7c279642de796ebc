"""Draft the next migration from the difference between the kinds and the newest schema: read it before you commit it.

python scripts/migration.py NUMBER "what changes"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from nexus.app.database import MIGRATIONS, migrate
from nexus.app.kinds import KINDS
from nexus.infra.records.sql import build_tables, open_engine


def main() -> None:
    number, words = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/draft.db")
        if any((MIGRATIONS / "versions").glob("0*.py")):
            migrate(engine)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["metadata"] = build_tables(KINDS)
            command.revision(config, message=words, autogenerate=True, rev_id=number)
    print(f"drafted in {Path('src/nexus/app/migrations/versions')}: read it, then set HEAD in app/database.py")


if __name__ == "__main__":
    main()
