"""The command line for whoever looks on: changes, previews, exports."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service_hub.domain.planning import JobIdentity, plan_policy_job
from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub
from tests.unit.arm.arm_estate import NOW

VAULT = "/hub/v1/vaults/v"
PREVIEW = {
    "operation": "UnplannedFailover",
    "target_name": "web01",
    "direction": "PrimaryToRecovery",
    "allowed": True,
    "refusal": None,
    "operator_signature_required": True,
    "tasks": [
        {
            "friendly_name": "Start failover",
            "course": "runs",
            "sides": ["Recovery"],
            "verb": "fail_over",
            "usual": {"count": 3, "median_seconds": 40.0, "p90_seconds": 55.0},
        }
    ],
    "effects": [
        {
            "action": "started",
            "side": "Recovery",
            "server": "vmm-b",
            "machine_id": "m",
            "words": "the virtual machine is started",
        }
    ],
    "expected_loss": {
        "seconds": 60.0,
        "words": "at most what was written since",
        "age_seconds": 20.0,
        "stale": True,
    },
    "expected_duration": {"words": "usually 40 s, at times 55 s"},
}
REFUSAL = {
    "code": "532",
    "message": "The operation couldn't be completed.",
    "possible_causes": "Another operation is in progress.",
    "recommended_action": "Wait.",
}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


def change(number: int, name: str, *, deleted: bool = False) -> dict[str, Any]:
    return {"kind": "job", "id": name, "change": number, "deleted": deleted}


def page(highest: int, *changes: dict[str, Any], restarted: bool = False) -> dict[str, Any]:
    return {"changes": list(changes), "highest": highest, "restarted": restarted}


class Pages(dict[tuple[str, str], web.Response]):
    """Answers of which each is given once, then the last again and again."""

    def __init__(self, *pages: dict[str, Any] | web.Response) -> None:
        super().__init__()
        self.left = [
            each if isinstance(each, web.Response) else web.json_response(each) for each in pages
        ]

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the next page for the path of changes."""
        if key != ("GET", f"{VAULT}/changes"):
            return default
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def test_changes_are_gathered_page_by_page(shell: Shell) -> None:
    shell.hub.answers = Pages(
        page(4, change(3, "a"), change(4, "b")), page(9, change(9, "a", deleted=True)), page(11)
    )
    text = shell.run("changes", "--since", "2", "-o", "json")
    assert "highest change: 11" in text
    rows = json.loads(text[: text.rindex("]") + 1])
    assert [(row["id"], row["change"], row["deleted"]) for row in rows] == [
        ("b", 4, False),
        ("a", 9, True),
    ]
    asked = [path for _, path in shell.hub.asked if "/changes" in path]
    assert [path.partition("?")[2] for path in asked] == [
        "since=2&limit=500&wait=0",
        "since=4&limit=500&wait=0",
        "since=9&limit=500&wait=0",
    ]


def test_changes_are_followed_until_the_hub_refuses(shell: Shell) -> None:
    refused = web.json_response(
        {"error": {"code": "InvalidAuthenticationToken", "message": "The token has expired."}},
        status=401,
    )
    shell.hub.answers = Pages(
        page(4, change(4, "a")),
        page(2, restarted=True),
        page(5, change(5, "b", deleted=True)),
        refused,
    )
    text = shell.run("changes", "--follow", code=ExitCode.NOT_LOGGED_IN)
    assert "4 job a\n" in text
    assert "5 job b deleted\n" in text
    assert "the hub was restored" in text
    assert "The token has expired" in text
    assert ("GET", f"{VAULT}/changes?since=2&limit=500&wait=20") in shell.hub.asked


def test_a_preview_shows_tasks_effects_loss_and_duration(shell: Shell) -> None:
    item = {"item_id": "item-1", "friendly_name": "web01"}
    shell.hub.answers["GET", f"{VAULT}/items"] = web.json_response({"items": [item]})
    shell.hub.answers["POST", f"{VAULT}/preview"] = web.json_response(PREVIEW)
    text = shell.run("preview", "unplanned-failover", "WEB01", "--with-source")
    assert "would be allowed now." in text
    assert "only with an operator's signature" in text
    assert "Start failover" in text
    assert "40 s" in text
    assert "Started at Recovery (vmm-b): the virtual machine is started" in text
    assert "Expected loss: 60 s, at most what was written since (seen 20 s ago, which is" in text
    assert "Expected duration: usually 40 s, at times 55 s" in text
    document = json.loads(shell.out("preview", "commit", "item-1", "-o", "json"))
    assert document["expected_loss"]["seconds"] == 60


def test_a_preview_of_what_is_asked_of_a_job_names_machines_and_what_to_know(shell: Shell) -> None:
    member = {"target_name": "web02", "refusal": REFUSAL}
    more = {"members": [member], "notes": ["Cancelled, a plan stops"]}
    shell.hub.answers["POST", f"{VAULT}/preview"] = web.json_response({**PREVIEW, **more})
    for command in ("cancel-job", "restart-job", "resume-job"):
        text = shell.run("preview", command, "job-1")
        assert "web02 would be refused: The operation couldn't be completed." in text
        assert "Note: Cancelled, a plan stops." in text
    assert ("GET", f"{VAULT}/items") not in shell.hub.asked


def test_a_preview_of_what_would_be_refused_says_why_and_ends_with_6(shell: Shell) -> None:
    item = {"item_id": "item-1", "friendly_name": "web01"}
    shell.hub.answers["GET", f"{VAULT}/items"] = web.json_response({"items": [item]})
    answer = {**PREVIEW, "allowed": False, "refusal": REFUSAL}
    shell.hub.answers["POST", f"{VAULT}/preview"] = web.json_response(answer)
    text = shell.run("preview", "commit", "web01", code=ExitCode.REFUSED)
    assert "would be refused (532): The operation couldn't be completed." in text
    assert "Another operation is in progress. Wait." in text


def test_a_preview_wants_one_machine_and_a_known_operation(shell: Shell) -> None:
    twins = [{"item_id": name, "friendly_name": "web01"} for name in ("a", "b")]
    shell.hub.answers["GET", f"{VAULT}/items"] = web.json_response({"items": twins})
    assert "2 protected machines are named web01" in shell.run(
        "preview", "commit", "web01", code=ExitCode.USAGE
    )
    shell.run("preview", "commit", "db01", code=ExitCode.NOT_FOUND)
    shell.hub.answers["GET", f"{VAULT}/machines"] = web.json_response({"machines": []})
    assert "no machines are named db01" in shell.run(
        "preview", "enable", "db01", code=ExitCode.NOT_FOUND
    )
    server = {"provider_id": "p-1", "friendly_name": "vmm-a"}
    shell.hub.answers["GET", f"{VAULT}/servers"] = web.json_response({"servers": [server]})
    shell.hub.answers["POST", f"{VAULT}/preview"] = web.json_response(PREVIEW)
    assert "would be allowed now." in shell.run("preview", "remove-server", "VMM-A")
    assert "no servers are named web01" in shell.run(
        "preview", "refresh-server", "web01", code=ExitCode.NOT_FOUND
    )
    shell.run("preview", "explode", "web01", code=ExitCode.USAGE)
    shell.hub.answers["POST", f"{VAULT}/preview"] = web.json_response({"tasks": 7})
    assert "another version" in shell.run("preview", "commit", "a", code=ExitCode.NOT_OFFERED)


def test_jobs_are_exported_to_the_screen_or_to_a_new_private_file(shell: Shell) -> None:
    content = b'{"jobs": [\n{"job_id": "1"}\n]}\n'
    shell.hub.answers["GET", f"{VAULT}/jobs/export"] = web.Response(body=content)
    assert json.loads(shell.out("job", "export")) == {"jobs": [{"job_id": "1"}]}
    file = shell.folder.parent / "jobs.csv"
    arguments = ("job", "export", "--format", "csv", "--state", "Failed", "--from", "2026-01-01")
    assert "exported to" in shell.run(*arguments, "--file", str(file))
    assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    asked = shell.hub.asked[-1][1]
    assert asked == f"{VAULT}/jobs/export?from=2026-01-01&state=Failed&format=csv"
    assert "name a file that does not exist" in shell.run(*arguments, "--file", str(file), code=1)


def test_a_refused_export_leaves_no_file(shell: Shell) -> None:
    problem = {"error": {"code": "InvalidRequest", "message": "The parameter 'from' is wrong."}}
    shell.hub.answers["GET", f"{VAULT}/jobs/export"] = web.json_response(problem, status=400)
    file = shell.folder.parent / "jobs.json"
    text = shell.run("job", "export", "--from", "x", "--file", str(file), code=ExitCode.REFUSED)
    assert "The parameter 'from' is wrong" in text
    assert not file.exists()


def test_a_running_job_says_how_long_it_usually_takes(shell: Shell) -> None:
    hub = shell.hub.hub
    hub.finish_jobs = False
    policy = next(iter(hub.policies.values()))
    identity = JobIdentity("job-1", "activity", NOW)
    hub.start(plan_policy_job(policy, identity))
    assert "usual" not in shell.run("job", "show", "job-1"), "a hub that has learnt nothing"
    task = {"task_id": "T1", "state": "InProgress", "words": "usually 40 s, running for 12 s"}
    waits = {"task_id": "T2", "state": "NotStarted", "words": "usually 5 s"}
    waiting = "waiting for vmm-b to report on 'T1' since 12:00; can be ended by Cancel"
    answer = {"tasks": [task, waits], "words": "usually 33 s more", "waiting_for": waiting}
    path = ("GET", f"{VAULT}/jobs/job-1/progress")
    shell.hub.answers[path] = web.json_response(answer)
    text = shell.run("job", "show", "job-1")
    assert "usual    T1: usually 40 s, running for 12 s" in text
    assert "usual    the job: usually 33 s more" in text
    assert "T2" not in text
    assert f"  {waiting}" in text
    assert "usual" not in shell.out("job", "show", "job-1", "-o", "json")
