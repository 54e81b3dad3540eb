import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provider_agent import VERSION
from provider_agent.setup.record import InstallationRecord, save_record
from provider_agent.update_policy import UpdatePolicy, load_policy


def record(folder: Path, node: str, *, auto_update: bool) -> None:
    now = datetime.now(UTC)
    made = InstallationRecord(node=node, version=VERSION, auto_update=auto_update, installed_at=now)
    save_record(folder, made)


def test_the_policy_is_the_nodes_own(tmp_path: Path) -> None:
    assert load_policy(tmp_path, None).auto_update is None
    record(tmp_path, "a", auto_update=True)
    assert load_policy(tmp_path, None).auto_update == "on"
    record(tmp_path, "b", auto_update=False)
    assert load_policy(tmp_path, None).auto_update is None
    assert load_policy(tmp_path, "a").auto_update == "on"
    assert load_policy(tmp_path, "b").auto_update == "off"


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (None, None),
        (VERSION, None),
        ("0.0.9", None),
        ("10.0.0", "10.0.0"),
        (f"{VERSION}.1", f"{VERSION}.1"),
        ("no version", None),
        ("", None),
    ],
)
def test_what_the_hub_offers_is_told_when_it_is_newer(
    monkeypatch: pytest.MonkeyPatch, offered: str | None, told: str | None
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: VERSION)
    policy = UpdatePolicy("off")
    assert policy.hear(offered) is (told is not None)
    assert policy.available_version() == told
    assert not policy.hear(offered), "it is told once"
    assert policy.hear(None) is (told is not None), "an offer may be taken back"


def test_a_version_that_waits_for_a_restart_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = UpdatePolicy("on")
    for installed, told in ((VERSION, None), ("9.9.9", "9.9.9")):
        monkeypatch.setattr(importlib.metadata, "version", lambda _, found=installed: found)
        assert policy.available_version() == told
