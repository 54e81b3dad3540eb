"""The tables' versions: Alembic's migrations, forward only, over a connection that is given."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def present_schema(connection: sa.Connection) -> str | None:
    """Return the version that the tables have; None for an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


def newest_schema() -> str:
    """Return the version that this program brings tables up to."""
    head = ScriptDirectory.from_config(_configuration()).get_current_head()
    assert head is not None, "the migrations come with the program"
    return head


def newer_schema(connection: sa.Connection) -> str | None:
    """Return the tables' version when this program does not know it, else None."""
    present = present_schema(connection)
    known = {
        script.revision for script in ScriptDirectory.from_config(_configuration()).walk_revisions()
    }
    return None if present is None or present in known else present


def bring_up_to_date(connection: sa.Connection) -> None:
    """Run what is missing, within the connection's transaction."""
    config = _configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
