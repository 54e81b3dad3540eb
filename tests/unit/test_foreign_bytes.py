"""Bytes of strangers, where no other test throws them: a value, or the error that is promised."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.chain import TrustChain
from certs.identity import new_private_key
from certs.profiles import Profile
from provider_agent.credentials import Identity, IdentityFacts, load_identity, save_identity
from provider_agent.doctor.channel import _hub_time
from provider_agent.doctor.network import HopFailedError
from provider_agent.domain.proxies import Proxy, ProxyError, parse_bypass, parse_proxy_url
from provider_agent.hub_https import DETAIL_CHARACTERS_MAX, _detail
from provider_agent.proxy import REGISTERED_FILE, load_rules
from provider_agent.setup.hub_probe import _time_of
from provider_agent.setup.package import MANIFEST, open_package
from provider_agent.setup.record import load_record
from service_hub.channel.session import PRESENCE_BYTES_MAX, read_presence
from service_hub.config import https_url
from service_hub.provider_api.event_pull import SEQ_MAX, WAIT_SECONDS_MAX, read_query
from service_hub.provider_api.problems import ProblemError
from service_hub.store.backup import restore
from service_hub.store.database import check_and_upgrade
from service_hub.store.errors import DatabaseUnusableError
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from service_shell.readiness import ready
from service_shell.secret_files import write_secret
from site_recovery_cli.failures import CommandError
from site_recovery_cli.hub_routes import _error_in, _rows
from site_recovery_cli.profiles import ProfileFolder, read_root, read_token

EXAMPLES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = ("time", "error", "code", "message", "detail", "pid", "version", "files", "address", "port")
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), VALUES, max_size=5)
BYTES = st.one_of(
    st.binary(max_size=300),
    VALUES.map(lambda value: json.dumps(value).encode()),
    DOCUMENTS.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b'{"time": "\xff"}']),
)


@EXAMPLES
@given(BYTES)
def test_answers_of_something_that_is_no_hub(answer: bytes) -> None:
    told = _time_of(answer)
    assert told is None or told.tzinfo is not None
    with contextlib.suppress(HopFailedError):
        assert isinstance(_hub_time(answer), datetime)
    words = _detail(answer)
    assert 0 < len(words) <= DETAIL_CHARACTERS_MAX
    assert "\n" not in words
    code, message = _error_in(answer)
    assert code is None or message is not None


@EXAMPLES
@given(DOCUMENTS, st.sampled_from(KEYS))
def test_any_answer_to_the_command_line(answer: dict[str, Any], field: str) -> None:
    with contextlib.suppress(CommandError):
        assert all(isinstance(row, dict) for row in _rows(answer, field))


URLS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="htps:/[]@.%0123456789aé#?", max_size=40),
    st.text(alphabet="[]:0123456789abcdef@%.", max_size=30).map(lambda text: f"http://{text}"),
    st.text(alphabet="[]:0123456789abcdef@%.", max_size=30).map(lambda text: f"https://{text}"),
)


@EXAMPLES
@given(URLS)
def test_any_url_of_a_proxy(url: str) -> None:
    with contextlib.suppress(ProxyError):
        proxy = parse_proxy_url(url)
        assert isinstance(proxy, Proxy)
        assert 0 < proxy.port <= 65_535


@EXAMPLES
@given(URLS)
def test_any_url_in_the_hubs_configuration(url: str) -> None:
    with contextlib.suppress(ValueError):
        assert https_url(url).startswith(("https://", "HTTPS://"))


@pytest.mark.parametrize("entry", ["hub:" + "0" * 5_000 + "1", "hub:" + "9" * 5_000])
def test_a_bypass_entry_with_an_endless_port_is_named(entry: str) -> None:
    with pytest.raises(ProxyError, match="port"):
        parse_bypass([entry])


def test_a_url_with_a_port_that_is_none_is_refused() -> None:
    for url in ("https://hub:99999", "https://hub:x", "https://[::1"):
        with pytest.raises(ValueError, match=r"https|ort|IPv6"):
            https_url(url)


@EXAMPLES
@given(st.none() | BYTES)
def test_any_presence(payload: bytes | None) -> None:
    presence = read_presence(payload)
    assert presence is None or (payload is not None and len(payload) <= PRESENCE_BYTES_MAX)


@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from(["stream", "after", "wait"]),
        st.text(max_size=30) | st.from_regex(r"[0-9.]{1,20}") | st.just("9" * 6_000),
    )
)
def test_any_query_of_a_pull(query: dict[str, str]) -> None:
    with contextlib.suppress(ProblemError):
        read = read_query(query)
        assert 0 <= read.after <= SEQ_MAX
        assert 0 <= read.wait_seconds <= WAIT_SECONDS_MAX


def _files(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what reads which file below `folder`."""
    clock = SystemClock()
    profiles = ProfileFolder(folder)
    return {
        REGISTERED_FILE: lambda: load_rules(None, folder, {}),
        "setup/node.json": lambda: load_record(folder, "node"),
        MANIFEST: lambda: open_package(folder, "1"),
        "identity/identity.json": lambda: load_identity(folder, clock.now()),
        "identity/key.pem": lambda: load_identity(folder, clock.now()),
        "identity/certificate.pem": lambda: load_identity(folder, clock.now()),
        "profile.json": lambda: profiles.load("profile"),
        "root.pem": lambda: read_root(folder / "root.pem"),
        "token": lambda: read_token(folder / "token"),
    }


@cache
def _identity() -> Identity:
    now = SystemClock().now()
    chain, key = TrustChain.create(now, "Tests"), new_private_key()
    issued = chain.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), "tokyo", now)
    facts = IdentityFacts(
        provider_id="tokyo",
        vault_id="v",
        vault_name="v",
        vmm_id="vmm",
        vmm_version="3.2",
        friendly_name="Tokyo",
        provider_url="https://hub",
        mqtt_host="hub",
        mqtt_port=8883,
        heartbeat_seconds=60,
        registered_at=now,
    )
    return Identity(facts, key, issued.chain_pem, chain.root_pem)


@pytest.mark.parametrize("name", sorted(_files(Path())))
@settings(parent=EXAMPLES, max_examples=20)
@given(BYTES)
def test_any_file_is_used_or_refused_with_the_programs_own_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "foreign" / name.replace("/", "-")
    with patch("os.fsync"):  # hundreds of files, none of which has to survive a power cut
        if not folder.exists():
            save_identity(folder, _identity())
        write_secret(folder / name, content)
    with contextlib.suppress(ProgramError, CommandError):
        _files(folder)[name]()


@settings(parent=EXAMPLES, max_examples=15)
@given(BYTES)
def test_any_ready_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ready.json"
    with ready(path, {}):
        path.write_bytes(content)
    assert path.read_bytes() == content


@pytest.fixture(scope="module")
def whole_backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a good backup."""
    path = tmp_path_factory.mktemp("backup") / "hub.db"
    check_and_upgrade(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return path.read_bytes()


@settings(parent=EXAMPLES, max_examples=12)
@given(st.data())
def test_any_backup_is_restored_or_changes_nothing(
    tmp_path: Path, whole_backup: bytes, data: st.DataObject
) -> None:
    content = bytearray(whole_backup)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 40))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    source, database = tmp_path / "backup", tmp_path / "hub.db"
    source.write_bytes(content)
    database.write_bytes(b"the present database")
    try:
        restore(database, source, lambda: "id")
    except DatabaseUnusableError:
        assert database.read_bytes() == b"the present database"
        assert not database.with_name("hub.db.restoring").exists()
