import json
import stat
from pathlib import Path

import pytest

from lab.estate_record import EstateRecord, load_record, need_record, save_record
from lab.layout import Layout
from lab.operator_file import (
    HostEntry,
    HubEntry,
    OperatorFile,
    ProcessEntry,
    SiteEntry,
    load_operator_file,
    save_operator_file,
)
from lab.process_table import ProcessRecord
from service_shell.errors import ProgramError


def process(name: str, pid: int) -> ProcessRecord:
    return ProcessRecord(
        name=name,
        pid=pid,
        start_ticks=1,
        boot_id="b",
        command=("true",),
        config="c",
        log="l",
        ready_file="r",
    )


def content() -> OperatorFile:
    entry = ProcessEntry(pid=10, config="c", log="l")
    return OperatorFile(
        base_url="https://127.64.0.1:1",
        ca_file="ca.pem",
        token="secret",  # noqa: S106 -- a value of this test alone
        subscription_id="s",
        resource_group="g",
        vault="v",
        vault_id="/subscriptions/s",
        hub=HubEntry(pid=9, config="c", log="l", provider_url="https://p", mqtt_url="mqtts://m"),
        sites={
            "tokyo": SiteEntry(
                fabric="f",
                cloud="c",
                vmm_url="https://v",
                management_url="https://m",
                management_token="t",  # noqa: S106 -- a value of this test alone
                vmm=entry,
                agent=entry,
                hosts={"hv01": HostEntry(address="127.64.0.10", disks_dir="d")},
            )
        },
    )


def test_the_file_has_exactly_the_promised_shape(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    save_operator_file(layout, content())
    written = json.loads(layout.operator_file.read_text())
    assert set(written) == {
        *("base_url", "ca_file", "token", "subscription_id", "resource_group", "vault"),
        *("vault_id", "hub", "sites"),
    }
    assert set(written["hub"]) == {"provider_url", "mqtt_url", "config", "pid", "log"}
    site = written["sites"]["tokyo"]
    assert set(site) == {
        *("fabric", "cloud", "vmm_url", "management_url", "management_token"),
        *("vmm", "agent", "hosts"),
    }
    assert set(site["vmm"]) == set(site["agent"]) == {"pid", "config", "log"}
    assert set(site["hosts"]["hv01"]) == {"address", "disks_dir"}


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    save_operator_file(layout, content())
    assert stat.S_IMODE(layout.operator_file.stat().st_mode) == 0o600
    layout.operator_file.chmod(0o644)
    with pytest.raises(ProgramError, match="chmod 600"):
        load_operator_file(layout.operator_file)


def test_a_process_that_was_started_again_is_found_under_its_new_pid() -> None:
    changed = content()
    for name, pid in (("hub", 90), ("tokyo/vmm", 91), ("tokyo/agent", 92)):
        changed = changed.with_process(process(name, pid))
    site = changed.sites["tokyo"]
    assert (changed.hub.pid, site.vmm.pid, site.agent.pid) == (90, 91, 92)
    assert changed.hub.provider_url == "https://p"
    assert content().with_process(process("keeper", 93)) == content()
    assert content().with_process(process("kyoto/vmm", 94)) == content()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    save_operator_file(layout, content())
    layout.operator_file.write_text("{")
    with pytest.raises(ProgramError, match="make lab-up"):
        load_operator_file(layout.operator_file)


def test_the_record_of_an_estate_is_kept_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    assert load_record(layout) is None
    with pytest.raises(ProgramError, match="make lab-up"):
        need_record(layout)
    record = EstateRecord(estate_file="e", kind="up", prefix="127.64.0").with_process(
        process("hub", 999_999_999)
    )
    save_record(layout, record)
    assert load_record(layout) == record
    assert not record.anything_alive
    with pytest.raises(ProgramError, match="is one of: hub"):
        record.process("tokyo/agent")
    layout.record.write_text('{"kind": "up"')
    assert load_record(layout) is None
