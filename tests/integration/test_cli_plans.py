"""The command line for recovery plans: listed, shown, exported, imported, previewed."""

import json
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from aiohttp import web

from service_hub.domain.recovery_plans import GroupType, RecoveryGroup, RecoveryPlan, arranged
from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub
from tests.unit.arm.arm_estate import NOW
from wire_contract.plan_documents import DOCUMENT_BYTES_MAX

V = "/hub/v1/vaults/v"
MANUAL = {"name": "Tell", "kinds": ["PlannedFailover"], "manual": "Send the mail."}
SCRIPT = {
    "name": "Name",
    "kinds": ["TestFailover"],
    "directions": ["PrimaryToRecovery"],
    "script": {"path": "dns.py", "side": "Recovery", "undo_path": "u.py"},
}
GROUPS = [
    {"type": "Shutdown", "before": [MANUAL]},
    {"machines": ["web"], "after": [SCRIPT]},
]
DOCUMENT = {"format": "site-recovery-plan/1", "name": "Payroll", "groups": GROUPS}
PREVIEW = {
    "operation": "PlannedFailover",
    "target_name": "Payroll",
    "direction": "PrimaryToRecovery",
    "allowed": False,
    "refusal": {"code": "25014", "message": "The plan is not ready."},
    "tasks": [{"friendly_name": "Recovery plan failover: Group 1", "course": "refused"}],
    "effects": [],
}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        item = next(iter(hub.hub.items.values()))
        boot = RecoveryGroup(group_type=GroupType.BOOT, members=(item.id,))
        plan = RecoveryPlan(
            id="plan",
            vault_id="v",
            name="Payroll",
            primary_provider_id=item.primary_provider_id,
            recovery_provider_id=item.recovery_provider_id,
            groups=arranged((boot,)),
            last_planned_failover_at=NOW,
        )
        hub.hub.plans[plan.id] = plan
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


def test_plans_are_listed_and_shown(shell: Shell) -> None:
    (row,) = json.loads(shell.out("plan", "list", "-o", "json"))
    assert (row["name"], row["groups"], row["machines"], row["doing"]) == ("Payroll", 1, 1, None)
    assert "PlannedFailover" in row["allowed"]
    shell.hub.answers["GET", f"{V}/plans/Payroll/export"] = web.json_response(DOCUMENT)
    shown = json.loads(shell.out("plan", "show", "Payroll", "-o", "json"))
    assert (shown["groups"], shown["last_test_failover_at"]) == (GROUPS, None)
    assert datetime.fromisoformat(shown["last_planned_failover_at"]) == NOW
    text = shell.run("plan", "show", "Payroll")
    assert "before: Tell (PlannedFailover): by a person: Send the mail." in text
    assert "Group 1: web" in text
    assert (
        "after: Name (TestFailover, PrimaryToRecovery): dns.py at Recovery, undone by u.py" in text
    )
    shell.run("plan", "show", "Nothing", code=ExitCode.NOT_FOUND)


def test_a_plan_is_exported_to_a_new_private_file_and_imported(shell: Shell) -> None:
    content = b"format: site-recovery-plan/1\n"
    shell.hub.answers["GET", f"{V}/plans/Payroll/export"] = web.Response(body=content)
    assert shell.out("plan", "export", "Payroll").encode() == content
    assert shell.hub.asked[-1][1].endswith("/export?format=yaml")
    file = shell.folder.parent / "payroll.yaml"
    assert "exported to" in shell.run("plan", "export", "Payroll", "--file", str(file))
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (content, 0o600)
    again = shell.run("plan", "export", "Payroll", "--file", str(file), code=1)
    assert "name a file that does not exist" in again
    told = {"plan": "Second", "job_id": "job-1", "state": "NotStarted"}
    shell.hub.answers["POST", f"{V}/plans/Second/import"] = web.json_response(told, status=202)
    assert "plan Second: job job-1" in shell.run("plan", "import", "Second", str(file))
    file.write_bytes(b" " * (DOCUMENT_BYTES_MAX + 1))
    assert "make several plans" in shell.run(
        "plan", "import", "Second", str(file), code=ExitCode.USAGE
    )
    file.unlink()
    assert "cannot read" in shell.run("plan", "import", "Second", str(file), code=ExitCode.USAGE)


def test_a_plan_is_previewed_by_its_name(shell: Shell) -> None:
    shell.hub.answers["POST", f"{V}/preview"] = web.json_response(PREVIEW)
    text = shell.run("plan", "preview", "Payroll", "planned-failover", code=ExitCode.REFUSED)
    assert "would be refused (25014): The plan is not ready." in text
    assert "Recovery plan failover: Group 1" in text


def test_the_schema_is_printed(shell: Shell) -> None:
    assert json.loads(shell.out("plan", "schema"))["title"] == "PlanDocument"
