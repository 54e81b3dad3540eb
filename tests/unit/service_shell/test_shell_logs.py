import asyncio
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from service_shell.configuration import LogSettings
from service_shell.errors import ProgramError
from service_shell.logs import configure_logging, flush_logs, log_file
from service_shell.redaction import (
    REDACTED,
    is_secret_key,
    may_hold_secret,
    redact,
    redact_text,
)

COMPACT_JWS = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLXZhbHVl"
PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"


@pytest.fixture(autouse=True, params=["alone", "beside the test runner's handlers"])
def _restore_logging(request: pytest.FixtureRequest) -> Iterator[None]:
    level, others = logging.getLogger().level, logging.getLogger().handlers[:]
    if request.param == "alone":
        logging.getLogger().handlers.clear()
    yield
    if request.param == "alone":
        logging.getLogger().handlers.extend(others)
    for handler in logging.getLogger().handlers[:]:
        if handler.name == "service_shell":
            logging.getLogger().removeHandler(handler)
            handler.close()
    logging.getLogger().setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _log_to(folder: Path, level: str = "info") -> Path:
    file = folder / "logs" / "hub.log"
    configure_logging(LogSettings(file=file, level=level), "service-hub")
    return file


def _entries(file: Path) -> list[dict[str, Any]]:
    flush_logs()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_event_is_one_json_line_with_its_fields(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    structlog.contextvars.bind_contextvars(job_id="j1")
    structlog.get_logger("hub").info("task_dispatched", task="start")
    (entry,) = _entries(file)
    assert entry["timestamp"].endswith("Z")
    del entry["timestamp"]
    assert entry == {
        "event": "task_dispatched",
        "task": "start",
        "job_id": "j1",
        "level": "info",
        "logger": "hub",
        "program": "service-hub",
    }


def test_libraries_and_warnings_go_to_the_same_file(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    logging.getLogger("aiohttp").warning("slow %s", "peer", extra={"password": "p"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
    first, second = _entries(file)
    assert (first["event"], first["logger"], first["password"]) == (
        "slow peer",
        "aiohttp",
        REDACTED,
    )
    assert second["logger"] == "py.warnings"


def test_the_level_is_kept(tmp_path: Path) -> None:
    file = _log_to(tmp_path, "warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [entry["event"] for entry in _entries(file)] == ["loud"]


def test_configuring_again_moves_the_log(tmp_path: Path) -> None:
    first = _log_to(tmp_path / "a")
    structlog.get_logger().info("one")
    second = _log_to(tmp_path / "b")
    structlog.get_logger().info("two")
    assert log_file() == second
    assert [entry["event"] for entry in _entries(first)] == ["one"]
    assert [entry["event"] for entry in _entries(second)] == ["two"]


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    structlog.get_logger().info("one")
    file.rename(file.with_suffix(".1"))
    structlog.get_logger().info("two")
    assert [entry["event"] for entry in _entries(file)] == ["two"]


async def test_lines_of_a_busy_loop_are_written_together_and_soon(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    log = structlog.get_logger("hub")
    for number in range(3):
        log.info("counted", number=number)
    assert not file.read_text()
    async with asyncio.timeout(10):
        while not file.read_text():
            await asyncio.sleep(0.01)
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [0, 1, 2]


async def test_a_warning_is_written_at_once_behind_what_came_before(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    log = structlog.get_logger("hub")
    log.info("one")
    log.warning("two")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["one", "two"]
    await asyncio.to_thread(log.info, "three, of a thread beside the loop")
    assert file.read_text().count("\n") == 3


def test_what_a_loop_held_is_written_though_the_loop_has_ended(tmp_path: Path) -> None:
    file = _log_to(tmp_path)

    async def say(word: str) -> None:
        structlog.get_logger("hub").info(word)

    asyncio.run(say("one"))
    asyncio.run(say("two"))
    assert [entry["event"] for entry in _entries(file)] == ["one", "two"]


def test_secrets_never_reach_the_file(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    log = structlog.get_logger()
    fields = {
        "token": "t0psecret",
        "headers": {"Authorization": "t0psecret", "Accept": "json"},
        "nested": [{"proxy_password": "t0psecret"}],
        "body": b"t0psecret",
        "text": f"got {COMPACT_JWS}",
        "pem": PEM,
        "token_id": "t1",
    }
    log.info("registered", **fields)
    log.info("Authorization: Bearer %s", COMPACT_JWS)
    try:
        raise ValueError(f"cannot parse {PEM} nor {COMPACT_JWS}")  # noqa: TRY301 -- the traceback is wanted
    except ValueError:
        log.exception("parse_failed")
    text = file.read_text()
    for secret in ("t0psecret", COMPACT_JWS, "MIGHAgEAMBMGByqGSM49"):
        assert secret not in text
    entries = _entries(file)
    assert entries[0].items() >= {"token_id": "t1", "token": REDACTED}.items()
    assert entries[0]["headers"] == {"Authorization": REDACTED, "Accept": "json"}
    assert "Traceback" in entries[2]["exception"]


class FullDiskError(Exception):
    """An error whose words are enough."""

    needs_no_trace = True


def test_an_error_that_needs_no_trace_has_none(tmp_path: Path) -> None:
    file = _log_to(tmp_path)
    log = structlog.get_logger()
    for error in (FullDiskError("the disk is full"), ValueError("a fault")):
        try:
            raise error
        except (FullDiskError, ValueError):
            log.exception("commit_failed")
    without, whole = _entries(file)
    assert without["cause"] == "the disk is full"
    assert "exception" not in without
    assert "Traceback" in whole["exception"]


def test_the_console_is_readable_and_keeps_secrets_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(), "service-hub")
    assert log_file() is None
    fields = {"token": "t0psecret", "provider": "tokyo"}
    structlog.get_logger().info("registered", **fields)
    shown = capsys.readouterr().err
    assert "registered" in shown
    assert "tokyo" in shown
    assert "t0psecret" not in shown


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(ProgramError, match="cannot write the log"):
        _log_to(tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "access_token",
        "Authorization",
        "proxy_password",
        "client_secret",
        "ChannelIntegrityKey",
        "private_key",
        "management_pfx",
        "set-cookie",
        "credentials",
    ],
)
def test_names_of_secrets(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["token_id", "token_expires_at", "password_file", "key", "item", "seconds", "event"]
)
def test_names_of_facts(key: str) -> None:
    assert not is_secret_key(key)


@settings(deadline=None, max_examples=200)
@given(
    before=st.text(max_size=20),
    after=st.text(alphabet=" \n,;)'\"", max_size=5),
    secret=st.sampled_from([COMPACT_JWS, PEM, PEM.replace("PRIVATE", "EC PRIVATE")]),
)
def test_a_secret_inside_any_text_is_removed(before: str, after: str, secret: str) -> None:
    # A word character glued to the front of a token is a longer word, and no token any more.
    shown = redact_text(f"{before} {secret}{after}")
    assert secret.strip() not in shown


@settings(deadline=None, max_examples=200)
@given(
    value=st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=20,
    )
)
def test_whatever_is_logged_can_be_written(value: object) -> None:
    json.dumps(redact({"value": value, "password": value}))
    assert redact({"password": value}) == {"password": REDACTED}


def test_what_contains_itself_is_cut() -> None:
    endless: list[object] = []
    endless.append(endless)
    json.dumps(redact(endless))


SECRETS = st.one_of(
    st.from_regex(r"(bearer|basic|Bearer|BASIC)[ \t\n]+[A-Za-z0-9._~+/=-]{8,20}", fullmatch=True),
    st.from_regex(r"(eyJ|EYj)[A-Za-z0-9_-]{8,20}([.][A-Za-z0-9_-]{0,5}){2,4}", fullmatch=True),
    st.just(PEM),
    st.just(PEM.lower()),
)


@settings(max_examples=60)
@given(before=st.text(max_size=20), secret=SECRETS, after=st.text(max_size=20))
def test_what_looks_harmless_at_a_glance_is(before: str, secret: str, after: str) -> None:
    text = f"{before} {secret} {after}"
    assert redact_text(secret) != secret
    assert may_hold_secret(text)
    assert may_hold_secret(json.dumps(text))


@pytest.mark.parametrize("value", [COMPACT_JWS, ["plain", COMPACT_JWS], PEM, {"a": COMPACT_JWS}])
def test_a_secret_in_any_value_of_an_entry_is_not_written(tmp_path: Path, value: Any) -> None:
    file = _log_to(tmp_path)
    structlog.get_logger("hub").info("told", thing=value, other="plain", more=["a", "b"], count=3)
    (entry,) = _entries(file)
    assert "eyJ" not in file.read_text()
    assert "PRIVATE KEY" not in file.read_text()
    assert (entry["other"], entry["more"], entry["count"]) == ("plain", ["a", "b"], 3)


@pytest.mark.parametrize("value", ["\udcff", "na\u00efve", 1.5, float("inf"), b"bytes", Path("p")])
def test_any_value_is_written_somehow(tmp_path: Path, value: Any) -> None:
    file = _log_to(tmp_path)
    structlog.get_logger("hub").info("told", thing=value)
    (entry,) = _entries(file)
    assert entry["event"] == "told"
