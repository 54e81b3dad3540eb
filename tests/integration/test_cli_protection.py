"""`site-recovery protect`, `cloud` and `event` against the ARM surface."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_hub.domain.protection import ProtectionState
from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub
from tests.unit.arm.arm_estate import MACHINE, MAPPING, POINT, POLICY
from tests.unit.arm.test_arm_events import EVENT


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


def test_protected_machines_are_listed_and_shown_with_their_points(shell: Shell) -> None:
    (row,) = json.loads(shell.out("protect", "list", "-o", "json"))
    assert (row["machine"], row["state"], row["active"]) == ("VM1", "Protected", "Primary")
    shown = json.loads(shell.out("protect", "show", "primary/vm1", "-o", "json"))
    assert shown["primary"] == "vmm.primary.example/primary"
    assert shown["recovery"] == "vmm.recovery.example/recovery"
    assert "PlannedFailover" in shown["allowed"]
    (point,) = json.loads(shell.out("protect", "points", MACHINE, "-o", "json"))
    assert (point["point"], point["kind"]) == (POINT, "CrashConsistent")


def test_a_machine_is_protected_by_the_policy_of_its_pairing(shell: Shell) -> None:
    refused = shell.run("protect", "enable", "VM1", code=ExitCode.REFUSED)
    assert "protected already" in refused
    shell.hub.hub.items.clear()
    assert shell.out("protect", "list") == "(none)\n"
    assert "see: site-recovery cloud machines" in shell.run(
        "protect", "enable", "VM9", code=ExitCode.NOT_FOUND
    )
    no_pairing = ("protect", "enable", "VM1", "--cloud", "recovery")
    shell.run(*no_pairing, code=ExitCode.NOT_FOUND)
    shell.run("protect", "enable", "VM1", "--policy", "none", code=ExitCode.NOT_FOUND)
    assert "done" in shell.run("protect", "enable", "VM1", "--wait")
    (job,) = shell.hub.hub.jobs.values()
    assert job.operation == "EnableProtection"


def test_protection_ends_where_the_state_allows_it(shell: Shell) -> None:
    item = shell.hub.hub.items[MACHINE]
    open_test = item.model_copy(update={"state": ProtectionState.TEST_OPEN})
    shell.hub.hub.items[MACHINE] = open_test
    said = shell.run("protect", "disable", "VM1", "--yes", code=ExitCode.REFUSED)
    assert "site-recovery failover cleanup VM1" in said
    shell.hub.hub.items[MACHINE] = item
    shell.run("protect", "disable", "VM1", code=1, typed="n\n")
    assert shell.hub.hub.jobs == {}
    shell.run("protect", "disable", "VM1", "--yes", "--wait")
    (job,) = shell.hub.hub.jobs.values()
    assert job.operation == "DisableProtection"


def test_clouds_with_their_machines_and_pairings(shell: Shell) -> None:
    rows = json.loads(shell.out("cloud", "list", "-o", "json"))
    assert {row["cloud"]: row["pairing"] for row in rows} == {
        "primary": "Paired",
        "recovery": "Paired",
        "free": "NotPaired",
    }
    shown = json.loads(shell.out("cloud", "show", "VMM.primary.example/Free", "-o", "json"))
    assert shown["cloud"] == "free"
    (machine,) = json.loads(shell.out("cloud", "machines", "primary", "-o", "json"))
    assert (machine["machine"], machine["protection"]) == ("VM1", "Protected")
    (pairing,) = json.loads(shell.out("cloud", "pairings", "-o", "json"))
    assert (pairing["pairing"], pairing["policy"]) == (MAPPING, POLICY)
    assert pairing["primary"] == "vmm.primary.example/primary"


def test_clouds_are_paired_and_parted(shell: Shell) -> None:
    shell.hub.hub.items.clear()
    shell.run("cloud", "unpair", MAPPING, code=1, typed="n\n")
    shell.run("cloud", "unpair", MAPPING.upper(), "--yes")
    assert len(shell.hub.hub.jobs) == 1
    pair = ("cloud", "pair", "free", "recovery", "--policy", POLICY)
    assert "pair vmm.primary.example/free with vmm.recovery.example/recovery: job" in shell.run(
        *pair
    )
    unknown = shell.run("cloud", "pair", "free", "nowhere", "--policy", POLICY, code=5)
    assert "see: site-recovery cloud list" in unknown
    assert len(shell.hub.hub.jobs) == 2


def test_events_are_listed_by_what_is_asked_and_shown(shell: Shell) -> None:
    event = EVENT
    shell.hub.hub.events.append(event)
    (row,) = json.loads(shell.out("event", "list", "--severity", "Critical", "-o", "json"))
    assert row["event"] == event.id
    assert shell.hub.hub.event_filters[-1]
    shown = json.loads(shell.out("event", "show", event.id, "-o", "json"))
    assert (shown["code"], shown["affected"]) == (event.code, event.affected_name)
    shell.hub.hub.events.append(event)
    assert "more than 1" in shell.run("event", "list", "--last", "1")
    shell.run("event", "show", "nothing", code=ExitCode.NOT_FOUND)
