"""`service-hub database` on the command line, for each database."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from service_hub.cli import application
from service_hub.store.schema import newest_schema
from tests.support.postgres_server import PostgresServer
from tests.support.store_world import BOTH


def configuration(folder: Path, **changes: Any) -> Path:
    """Write a hub's configuration."""
    file = folder / "hub.yaml"
    settings: dict[str, Any] = {
        "data_directory": "data",
        "key_file": "hub.key",
        "public_url": "https://127.0.0.1:1",
        "operator": {"host": "127.0.0.1", "port": 0},
        "provider": {"host": "127.0.0.1", "port": 0, "public_url": "https://127.0.0.1:2"},
        "mqtt": {"host": "127.0.0.1", "port": 0, "public_host": "127.0.0.1"},
        **changes,
    }
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture(params=BOTH)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "sqlite":
        return configuration(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name: str = request.getfixturevalue("postgres_database")
    return configuration(tmp_path, database=server.settings(name, tmp_path / "password"))


def database(config: Path, command: str, *arguments: str) -> Result:
    """Run one of the commands."""
    return CliRunner().invoke(
        application, ["database", command, "--config", str(config), *arguments]
    )


def test_a_database_is_made_checked_backed_up_and_restored(config: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "backup.db")
    upgraded = database(config, "upgrade")
    assert upgraded.exit_code == 0, upgraded.output
    assert f"has schema {newest_schema()}" in upgraded.output
    assert database(config, "upgrade").exit_code == 0
    checked = database(config, "check")
    assert checked.exit_code == 0, checked.output
    assert "is whole" in checked.output
    backed_up = database(config, "backup", "--output", output)
    assert backed_up.exit_code == 0, backed_up.output
    again = database(config, "backup", "--output", output)
    assert again.exit_code == 1
    assert "exists: name a file that does not" in again.output
    restored = database(config, "restore", "--input", output)
    assert restored.exit_code == 0, restored.output
    assert "0 providers begin with a new stream" in restored.output
    missing = database(config, "restore", "--input", f"{output}.other")
    assert missing.exit_code == 1
    assert "there is no backup" in missing.output


def test_damage_has_an_exit_code_of_its_own_and_names_the_remedy(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    nothing = database(config, "check")
    assert nothing.exit_code == 1
    assert "there is no database" in nothing.output
    assert database(config, "upgrade").exit_code == 0
    with closing(sqlite3.connect(tmp_path / "data" / "hub.db")) as connection:
        connection.execute(
            "INSERT INTO provider_stream (id, version, created, change, document)"
            " VALUES ('p', 1, 1, 1, 'no document')"
        )
        connection.commit()
    damaged = database(config, "check")
    assert damaged.exit_code == 1
    assert "provider_stream p: version 1, change 1 of 0" in damaged.output
    assert "provider_stream p: its document cannot be read" in damaged.output
    assert "service-hub database restore" in damaged.output
    assert "no document" not in damaged.output


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "postgresql"}, "either host or socket_directory"),
        ({"kind": "postgresql", "host": "h", "socket_directory": "s"}, "either host or socket"),
        ({"kind": "sqlite", "host": "db"}, "takes no host"),
        ({"kind": "oracle"}, "kind"),
        ({"kind": "postgresql", "host": "h", "password": "geheim"}, "password"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    refused = database(configuration(tmp_path, database=settings), "check")
    assert refused.exit_code == 1
    assert words in refused.output
    assert "geheim" not in refused.output


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("geheim")
    file.chmod(0o644)
    told = {"kind": "postgresql", "host": "127.0.0.1", "password_file": str(file)}
    refused = database(configuration(tmp_path, database=told), "check")
    assert refused.exit_code == 1
    assert str(file) in refused.output
    assert "geheim" not in refused.output
