"""`site-recovery job ...` against a hub over TLS: lists, trees, requests, failures, exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from certs.channel_integrity import new_key
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.planning import plan_policy_job
from service_hub.ports.use_cases import RequestIdentity
from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import CliHub, Shell, cli_hub
from tests.unit.arm.arm_jobs import plan_with_children, suspended
from wire_contract.operator_signature import Order, SignedOperation, read_signature
from wire_contract.scripts import ScriptOrder, script_digest
from wire_contract.vocabulary import Direction


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliHub]:
    with cli_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def shell(served: CliHub, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Log in to a hub without jobs, on which what is begun runs on."""
    served.hub.jobs.clear()
    served.hub.identities.clear()
    served.hub.fail_jobs, served.hub.finish_jobs = False, False
    shell = Shell(served, tmp_path_factory.mktemp("profiles") / "profiles")
    shell.login()
    return shell


def begun(shell: Shell) -> Job:
    """Let a job of the hub run."""
    hub = shell.hub.hub
    identity = RequestIdentity("anna", "c", "d", "PUT", "/p", "")
    policy = next(iter(hub.policies.values()))
    return hub.start(plan_policy_job(policy, hub.identity(identity)))


def failed(shell: Shell) -> Job:
    """Let a job of the hub fail."""
    shell.hub.hub.fail_jobs = True
    return shell.hub.hub.end(begun(shell))


def shown(shell: Shell, job: Job) -> dict[str, Any]:
    """Return what `job show` says of a job."""
    row: dict[str, Any] = json.loads(shell.out("job", "show", job.id, "-o", "json"))
    return row


def test_jobs_are_listed_and_chosen_from(shell: Shell) -> None:
    first, second = failed(shell), begun(shell)
    rows = json.loads(shell.out("job", "list", "-o", "json"))
    assert [row["job"] for row in rows] == [second.id, first.id]
    assert yaml.safe_load(shell.out("job", "list", "-o", "yaml")) == rows
    assert rows[0]["allowed_actions"] == ["Cancel"]
    lines = shell.out("job", "list", "-o", "tsv").splitlines()
    assert [line.split("\t")[0] for line in lines] == [second.id, first.id]
    table = shell.out("job", "list")
    assert table.splitlines()[0].split()[:2] == ["Job", "Operation"]
    for option, expected in (
        (("--state", "failed"), first),
        (("--active",), second),
        (("--last", "1"), second),
    ):
        chosen = json.loads(shell.out("job", "list", *option, "-o", "json"))
        assert [row["job"] for row in chosen] == [expected.id]
    assert "more than 1" in shell.run("job", "list", "--last", "1")
    assert json.loads(shell.out("job", "list", "--target", "other", "-o", "json")) == []
    assert shell.out("job", "list", "--target", "other") == "(none)\n"


def test_a_failed_job_names_task_cause_remedy_and_what_to_do_next(shell: Shell) -> None:
    job = failed(shell)
    row = shown(shell, job)
    (error,) = row["errors"]
    assert error["code"] == "28020"
    assert error["provider_message"] == "Invalid state."
    assert row["next"] == [
        f"site-recovery job restart {job.id}  # goes on from the task that failed"
    ]
    told = shell.out("job", "show", job.id)
    watched = shell.run("job", "watch", job.id, code=ExitCode.JOB_FAILED)
    for text in (told, watched):
        assert f"  failed   {error['task']}" in text
        assert "  error    28020 The requested operation failed." in text
        assert "  provider 32775 Invalid state." in text
        assert "  cause    The host refused." in text
        assert "  remedy   Look at the host." in text
        assert f"site-recovery job restart {job.id}" in text
    assert watched.splitlines()[-1].startswith(f"error: job {job.id}")


def test_a_busy_item_leads_to_the_jobs_that_run(shell: Shell) -> None:
    job = failed(shell)
    (error,) = job.errors
    busy = error.model_copy(update={"code": "532", "task_id": None})
    shell.hub.hub.jobs[job.id] = job.model_copy(update={"errors": (busy,)})
    text = shell.run("job", "watch", job.id, code=ExitCode.JOB_FAILED)
    assert "before its first task" in text
    assert "site-recovery job list --active" in text


def test_a_job_is_cancelled_after_a_question(shell: Shell) -> None:
    job = begun(shell)
    shell.run("job", "cancel", job.id, code=1, typed="n\n")
    assert shell.hub.hub.jobs[job.id].requests == ()
    text = shell.run("job", "cancel", job.id, "--yes", "--wait")
    assert text.splitlines()[-1] == f"cancel job {job.id}: done."
    assert shown(shell, job)["state"] == "Cancelled"
    text = shell.run("job", "cancel", job.id, "--yes", code=ExitCode.REFUSED)
    assert "can't be cancelled" in text


def test_a_cancellation_that_came_too_late_is_a_failure(shell: Shell) -> None:
    job = begun(shell)
    hub = shell.hub.hub
    update = {"state": JobState.SUCCEEDED, "ended_at": job.created_at}
    hub.jobs[job.id] = job.model_copy(update=update)
    text = shell.run("job", "cancel", job.id, "--yes", "--wait", code=ExitCode.REFUSED)
    assert "Succeeded" in text


def test_a_job_that_somebody_else_cancels_is_told_so(shell: Shell) -> None:
    job = begun(shell)
    shell.run("job", "cancel", job.id, "--yes")
    text = shell.run("job", "watch", job.id, code=ExitCode.JOB_FAILED)
    assert "somebody cancelled it" in text
    assert "somebody cancelled it" in shell.out("job", "show", job.id)
    assert "restart" not in text


def test_a_cancelled_plan_says_that_machines_which_were_done_stay(shell: Shell) -> None:
    plan = plan_with_children(shell.hub.hub, begun(shell))
    plan = plan.model_copy(update={"scenario_key": "plan_planned_failover"})
    shell.hub.hub.jobs[plan.id] = plan
    (command, *_) = shown(shell, plan)["next"]
    assert command.endswith(
        "# takes back what is under way; machines that are done stay as they are"
    )
    shell.run("job", "cancel", plan.id, "--yes")
    text = shell.run("job", "watch", plan.id, code=ExitCode.JOB_FAILED)
    assert "machines whose jobs had ended stay" in text
    assert "site-recovery waiting  # shows which machines it left failed over" in text


def test_a_failed_job_is_restarted_under_its_own_id(shell: Shell) -> None:
    job = failed(shell)
    text = shell.run("job", "restart", job.id)
    assert f"site-recovery job watch {job.id}" in text
    shell.hub.hub.fail_jobs = False
    shell.hub.hub.end(shell.hub.hub.jobs[job.id])
    text = shell.run("job", "watch", job.id)
    assert "✓" in text
    assert text.splitlines()[-1] == f"job {job.id}: done."
    text = shell.run("job", "restart", job.id, code=ExitCode.REFUSED)
    assert "only a job that has failed" in text


def test_restart_and_cancel_are_signed_anew_where_the_login_has_the_key(
    shell: Shell, tmp_path: Path
) -> None:
    key = tmp_path / "prod.key"
    key.write_text(f"{new_key()}\n")
    key.chmod(0o600)
    shell.login("--channel-integrity-key-file", str(key))
    named = {"operation": "PlannedFailover", "item": "i", "direction": "PrimaryToRecovery"}
    hub = shell.hub.hub

    def sent(command: str, job: Job, order: object) -> str | None:
        answer = web.json_response({"tasks": [], "operator_order": order})
        place = f"/hub/v1/vaults/v/jobs/{job.id}/progress"
        shell.hub.answers["GET", place] = answer
        shell.run("job", command, job.id, *(("--yes",) if command == "cancel" else ()))
        return hub.identities[-1].operator_signature

    for command, make in (("restart", failed), ("cancel", begun)):
        header = sent(command, make(shell), named)
        assert header is not None
        assert read_signature(header).order == Order(
            SignedOperation.PLANNED_FAILOVER, "i", Direction.PRIMARY_TO_RECOVERY
        )
        assert sent(command, make(shell), None) is None
    job = failed(shell)
    place = f"/hub/v1/vaults/v/jobs/{job.id}/progress"
    shell.hub.answers["GET", place] = web.json_response({"tasks": [], "operator_order": 7})
    text = shell.run("job", "restart", job.id, code=ExitCode.NOT_OFFERED)
    assert "no order that an operator could sign" in text


def test_the_restart_of_a_plans_job_is_signed_for_its_machines_and_scripts(
    shell: Shell, tmp_path: Path
) -> None:
    key = tmp_path / "prod.key"
    key.write_text(f"{new_key()}\n")
    key.chmod(0o600)
    shell.login("--channel-integrity-key-file", str(key))
    job, hub = failed(shell), shell.hub.hub
    script = {
        "path": "RPScripts/tell.sh",
        "context": {
            "plan_id": "plan-1",
            "plan_name": "Payroll",
            "group": "Group 1",
            "when": "after",
            "action": "Tell",
            "kind": "Commit",
            "direction": "PrimaryToRecovery",
            "side": "Recovery",
            "job_id": job.id,
            "machines": [{"item": "i", "name": "web"}],
        },
    }
    orders = {
        "operation": "Commit",
        "direction": "PrimaryToRecovery",
        "items": ["i"],
        "scripts": [script],
    }
    place = f"/hub/v1/vaults/v/jobs/{job.id}/progress"
    told: dict[str, Any] = {"tasks": [], "operator_order": None, "operator_orders": orders}
    shell.hub.answers["GET", place] = web.json_response(told)
    said = shell.run("job", "restart", job.id)
    assert "Signs RPScripts/tell.sh at Recovery (Group 1, after it)." in said
    digest = script_digest(ScriptOrder.model_validate(script))
    given = hub.identities[-1].member_signatures
    assert {name: read_signature(text).order for name, text in given.items()} == {
        "i": Order(SignedOperation.COMMIT, "i"),
        f"script/{digest}": Order(SignedOperation.COMMIT, "plan-1", None, digest),
    }
    job = failed(shell)
    place = f"/hub/v1/vaults/v/jobs/{job.id}/progress"
    shell.hub.answers["GET", place] = web.json_response({**told, "operator_orders": {"items": []}})
    said = shell.run("job", "restart", job.id, code=ExitCode.NOT_OFFERED)
    assert "no orders that an operator could sign" in said


def test_resume_and_cancel_of_a_plans_job_are_signed_for_its_machines(
    shell: Shell, tmp_path: Path
) -> None:
    key = tmp_path / "prod.key"
    key.write_text(f"{new_key()}\n")
    key.chmod(0o600)
    shell.login("--channel-integrity-key-file", str(key))
    hub = shell.hub.hub
    job = suspended(hub, plan_with_children(hub, begun(shell)))
    orders = {
        "operation": "PlannedFailover",
        "direction": "PrimaryToRecovery",
        "items": ["i"],
        "scripts": [],
    }
    told: dict[str, Any] = {"tasks": [], "operator_order": None, "operator_orders": orders}
    for request in (("resume", job.id, "--comments", "seen"), ("cancel", job.id, "--yes")):
        place = f"/hub/v1/vaults/v/jobs/{job.id}/progress"
        shell.hub.answers["GET", place] = web.json_response(told)
        shell.run("job", *request)
        (text,) = hub.identities[-1].member_signatures.values()
        assert read_signature(text).order == Order(
            SignedOperation.PLANNED_FAILOVER, "i", Direction.PRIMARY_TO_RECOVERY
        )


def test_a_restart_that_is_waited_for_fails_with_the_job(shell: Shell) -> None:
    job = failed(shell)
    shell.hub.hub.finish_jobs = True
    text = shell.run("job", "restart", job.id, "--wait", code=ExitCode.JOB_FAILED)
    assert "✗" in text
    assert "Restart" in shown(shell, job)["allowed_actions"]


def test_a_suspended_job_says_what_it_waits_for_and_is_resumed(shell: Shell) -> None:
    job = suspended(shell.hub.hub, plan_with_children(shell.hub.hub, begun(shell)))
    text = shell.run("job", "watch", job.id, "--wait-seconds", "1", code=ExitCode.TOOK_TOO_LONG)
    assert text.count("Look at the door.") == 1
    assert f"site-recovery job resume {job.id} --comments" in text
    row = shown(shell, job)
    assert row["tasks"][1]["instructions"] == "Look at the door."
    assert {each.split()[2] for each in row["next"]} == {"resume", "cancel", "watch"}
    shell.run("job", "resume", job.id, "--comments", "it is locked")
    (request,) = shell.hub.hub.jobs[job.id].requests
    assert (request.action, request.comments) == ("Resume", "it is locked")


def test_tasks_are_a_tree(shell: Shell) -> None:
    plan = plan_with_children(shell.hub.hub, begun(shell))
    group = shown(shell, plan)["tasks"][0]
    running, waiting = group["tasks"]
    assert running["job"] == running["task_id"]
    assert running["tasks"][0]["task"].startswith("Prerequisites check")
    assert waiting["state"] == "NotStarted"
    lines = shell.out("job", "show", plan.id).splitlines()
    depths = [len(line) - len(line[3:].lstrip()) for line in lines if "Group 1" in line]
    below = [len(line) - len(line[3:].lstrip()) for line in lines if "Prerequisites" in line]
    assert depths[0] < below[0]


def test_progress_shows_each_ending_once_also_of_another_attempt(shell: Shell) -> None:
    job = failed(shell)
    text = shell.run("job", "watch", job.id, code=ExitCode.JOB_FAILED)
    titles = [line for line in text.splitlines() if line.startswith("  ✗ ")]
    assert len(titles) == len(job.tasks) == len(set(titles))
    runs = tuple(task.model_copy(update={"state": TaskState.SKIPPED}) for task in job.tasks)
    shell.hub.hub.jobs[job.id] = job.model_copy(update={"tasks": runs})
    text = shell.run("job", "watch", job.id, code=ExitCode.JOB_FAILED)
    assert text.count("  - ") == len(runs)


@pytest.mark.parametrize("command", ["show", "watch", "cancel", "restart", "resume"])
def test_a_job_that_is_not_there_is_named(shell: Shell, command: str) -> None:
    more = ("--yes",) if command == "cancel" else ()
    text = shell.run("job", command, "nothing", *more, code=ExitCode.NOT_FOUND)
    assert "nothing" in text


@pytest.mark.parametrize("command", ["cancel", "restart", "resume"])
def test_a_reader_asks_nothing_of_jobs(shell: Shell, command: str) -> None:
    job = failed(shell)
    shell.login(token="reading")  # noqa: S106 -- known to the hub in memory alone
    more = ("--yes",) if command == "cancel" else ()
    shell.run("job", command, job.id, *more, code=ExitCode.NOT_PERMITTED)
    assert shell.hub.hub.jobs[job.id].requests == ()
    assert job.id in shell.out("job", "list")


def test_what_waits_is_listed(shell: Shell) -> None:
    row = {"kind": "item", "id": "i", "name": "web01", "waiting_for": "waiting for somebody"}
    path = "/hub/v1/vaults/v/waiting"
    shell.hub.answers["GET", path] = web.json_response({"waiting": [row]})
    assert "waiting for somebody" in shell.out("waiting")
    assert json.loads(shell.out("waiting", "-o", "json")) == [row]
    shell.hub.answers["GET", path] = web.json_response({"waiting": []})
    assert shell.out("waiting") == "(none)\n"
