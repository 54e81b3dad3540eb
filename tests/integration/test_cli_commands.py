"""The command line against a hub over TLS: profiles, results, refusals and exit codes."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from site_recovery_cli.exit_codes import MEANINGS, ExitCode
from tests.support.cli_world import CliHub, Shell, cli_hub
from tests.unit.arm.arm_estate import VAULT

ROOT = Path(__file__).parents[2]
SERVER = "vmm.primary.example"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliHub]:
    with cli_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def fresh(served: CliHub, tmp_path: Path) -> Shell:
    served.asked.clear()
    served.answers.clear()
    served.hub.fail_jobs = False
    return Shell(served, tmp_path / "profiles")


@pytest.fixture
def shell(fresh: Shell) -> Shell:
    fresh.login()
    fresh.hub.asked.clear()
    return fresh


# ------------------------------------------------------------------------------ login and profiles


def test_login_keeps_a_checked_profile_for_its_owner_alone(fresh: Shell) -> None:
    fresh.login("--profile", "tokyo")
    file = fresh.folder / "tokyo.json"
    assert stat.S_IMODE(fresh.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    profile = json.loads(file.read_text())
    assert (profile["vault"], profile["token"]) == (VAULT, "good")
    listed = fresh.out("profiles", "-o", "json")
    assert "good" not in listed
    assert [each["profile"] for each in json.loads(listed)] == ["tokyo"]


@pytest.mark.parametrize(
    ("token", "code", "says"),
    [
        ("wrong", ExitCode.NOT_LOGGED_IN, "get a new token"),
        ("two words", ExitCode.USAGE, "holds no bearer token"),
        ("", ExitCode.USAGE, "holds no bearer token"),
    ],
)
def test_login_with_a_bad_token_keeps_nothing(
    fresh: Shell, token: str, code: ExitCode, says: str
) -> None:
    assert says in fresh.login(token=token, code=code)
    assert not fresh.folder.exists()


def test_login_trusts_the_named_root_alone(fresh: Shell) -> None:
    fresh.hub.ca_file, right = fresh.hub.other_ca_file, fresh.hub.ca_file
    try:
        text = fresh.login(code=ExitCode.NOT_REACHABLE)
    finally:
        fresh.hub.ca_file = right
    assert "is not signed by the trusted root" in text


def test_login_refuses_a_token_file_that_others_may_read(fresh: Shell) -> None:
    file = fresh.folder.parent / "open"
    file.write_text("good")
    file.chmod(0o644)
    text = fresh.run(
        *("login", "--hub", fresh.hub.url, "--ca-file", str(fresh.hub.ca_file)),
        *("--token-file", str(file)),
        code=1,
    )
    assert "chmod 600" in text


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\x00" * 300_000])
def test_login_refuses_a_file_without_a_certificate(fresh: Shell, content: bytes) -> None:
    fresh.hub.ca_file, right = fresh.folder.parent / "bad.pem", fresh.hub.ca_file
    fresh.hub.ca_file.write_bytes(content)
    try:
        assert "holds no certificate" in fresh.login(code=ExitCode.USAGE)
    finally:
        fresh.hub.ca_file = right


@pytest.mark.parametrize("hub", ["http://hub:1", "hub", "https://", "https://a@hub:1", "https://["])
def test_login_refuses_what_is_no_address(fresh: Shell, hub: str) -> None:
    fresh.hub.url, right = hub, fresh.hub.url
    try:
        assert "must be https://HOST:PORT" in fresh.login(code=ExitCode.USAGE)
    finally:
        fresh.hub.url = right


def test_login_refuses_a_vault_that_is_not_there(fresh: Shell) -> None:
    text = fresh.login("--vault", "nowhere", code=ExitCode.NOT_FOUND)
    assert VAULT in text


def test_without_a_profile_commands_say_how_to_make_one(fresh: Shell) -> None:
    assert "site-recovery login" in fresh.run("vault", "list", code=ExitCode.NOT_LOGGED_IN)


def test_a_damaged_profile_is_named(shell: Shell) -> None:
    (shell.folder / "default.json").write_text("{")
    assert "is damaged" in shell.run("vault", "list", code=ExitCode.NOT_LOGGED_IN)


@pytest.mark.parametrize("name", ["../up", "", "a/b", "x" * 65])
def test_a_profile_cannot_leave_its_folder(fresh: Shell, name: str) -> None:
    assert "cannot be a profile's name" in fresh.login("--profile", name, code=ExitCode.USAGE)


def test_a_hub_that_is_gone_is_named(shell: Shell) -> None:
    file = shell.folder / "default.json"
    profile = json.loads(file.read_text()) | {"hub": "https://127.0.0.1:1"}
    file.write_text(json.dumps(profile))
    for command in (("vault", "list"), ("vault", "keys")):
        text = shell.run(*command, code=ExitCode.NOT_REACHABLE)
        assert "does not answer" in text


# ----------------------------------------------------------------------------------------- results


def test_vaults_in_every_form(shell: Shell) -> None:
    table = shell.out("vault", "list")
    rows = json.loads(shell.out("vault", "list", "-o", "json"))
    assert table.splitlines()[0].split()[:2] == ["Name", "Resource"]
    assert VAULT in table
    assert rows[0]["state"] == "Active"
    assert yaml.safe_load(shell.out("vault", "list", "-o", "yaml")) == rows
    first = shell.out("vault", "list", "-o", "tsv").splitlines()[0].split("\t")
    assert first == [VAULT, rows[0]["resource_group"], "japaneast", "Active"]


def test_create_and_show_a_vault(shell: Shell) -> None:
    made = json.loads(shell.out("vault", "create", "second", "--region", "japaneast", "-o", "json"))
    shown = json.loads(shell.out("vault", "show", "second", "-o", "json"))
    assert made == shown
    assert shown["state"] == "Active"
    assert "check the name" in shell.run("vault", "show", "nowhere", code=ExitCode.NOT_FOUND)


def test_a_reader_may_not_create(fresh: Shell) -> None:
    fresh.login(token="reading")  # noqa: S106 -- known to the hub in memory alone
    text = fresh.run("vault", "create", "third", "-r", "japaneast", code=ExitCode.NOT_PERMITTED)
    assert "Contributor" in text


def test_deleting_a_vault_in_use_is_refused_with_the_hubs_reason(shell: Shell) -> None:
    text = shell.run("vault", "delete", VAULT, "--yes", code=ExitCode.REFUSED)
    assert "Remove them first" in text


def test_a_question_that_is_not_answered_with_yes_changes_nothing(shell: Shell) -> None:
    shell.run("vault", "delete", VAULT, code=1, typed="n\n")
    assert not [path for method, path in shell.hub.asked if method == "DELETE"]


# -------------------------------------------------------------------------------- registration keys


def test_a_registration_key_goes_into_a_file_for_its_owner(shell: Shell, tmp_path: Path) -> None:
    key = ("POST", "/hub/v1/vaults/v/registration-keys")
    shell.hub.answers[key] = web.Response(body=b"<RSVaultAsrCreds/>")
    file = tmp_path / "vault.VaultCredentials"
    text = shell.run("vault", "registration-key", "-o", str(file))
    assert file.read_bytes() == b"<RSVaultAsrCreds/>"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "120 hours" in text
    assert "exists" in shell.run("vault", "registration-key", "-o", str(file), code=ExitCode.USAGE)


def test_keys_are_listed_and_revoked(shell: Shell) -> None:
    path = "/hub/v1/vaults/v/registration-keys"
    shell.hub.answers["GET", path] = web.json_response({"keys": [{"key_id": "ab12"}]})
    shell.hub.answers["POST", f"{path}/ab12/revoke"] = web.json_response({})
    assert "ab12" in shell.out("vault", "keys")
    shell.run("vault", "revoke-key", "ab12", "--yes")
    assert shell.hub.asked[-1] == ("POST", f"{path}/ab12/revoke")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, ExitCode.NOT_OFFERED),
        (web.Response(body=b"<html>"), ExitCode.NOT_REACHABLE),
        (web.Response(body=b"[" * 100_000), ExitCode.NOT_REACHABLE),
        (web.json_response({"keys": "none"}), ExitCode.NOT_OFFERED),
        (web.json_response({"keys": [1]}), ExitCode.NOT_OFFERED),
        (web.Response(status=500, body=b"oops"), ExitCode.REFUSED),
        (web.Response(status=501, body=b"oops"), ExitCode.NOT_OFFERED),
        (web.Response(body=b"x" * 17_000_000), ExitCode.NOT_REACHABLE),
    ],
)
def test_what_a_hub_would_not_answer_is_one_sentence(
    shell: Shell, answer: web.Response | None, code: ExitCode
) -> None:
    if answer is not None:
        shell.hub.answers["GET", "/hub/v1/vaults/v/registration-keys"] = answer
    text = shell.run("vault", "keys", code=code).strip()
    assert "registration keys" in text or "list of keys" in text
    assert len(text.splitlines()) == 1


def test_what_could_steer_a_terminal_is_not_printed(shell: Shell) -> None:
    rows = [{"key_id": "\x1b[2J[bold]x[/bold]"}]
    shell.hub.answers["GET", "/hub/v1/vaults/v/registration-keys"] = web.json_response(
        {"keys": rows}
    )
    text = shell.out("vault", "keys")
    assert "\x1b" not in text
    assert "?[2J[bold]x[/bold]" in text
    assert json.loads(shell.out("vault", "keys", "-o", "json")) == rows


# ----------------------------------------------------------------------------------------- servers


def test_servers_are_listed_and_found_by_every_name(shell: Shell) -> None:
    rows = json.loads(shell.out("server", "list", "-o", "json"))
    first = next(row for row in rows if row["server"] == SERVER)
    told = {"provider_id": first["provider_id"], "auto_update": "on", "available_version": "9.1"}
    shell.hub.answers["GET", "/hub/v1/vaults/v/servers"] = web.json_response({"servers": [told]})
    first |= {"available_version": "9.1", "update_policy": "automatic updates on"}
    assert first["connection"] == "Connected"
    for field in ("server", "name", "fabric", "provider_id"):
        assert json.loads(shell.out("server", "show", first[field].upper(), "-o", "json")) == first
    text = shell.run("server", "show", "nowhere", code=ExitCode.NOT_FOUND)
    assert "server list" in text


@pytest.mark.parametrize(
    ("command", "method", "ending"),
    [
        ("refresh", "POST", "/refreshProvider"),
        ("remove", "POST", "/remove"),
        ("purge", "DELETE", ""),
    ],
)
def test_what_lasts_names_its_job_or_follows_it(
    shell: Shell, command: str, method: str, ending: str
) -> None:
    agreed = () if command == "refresh" else ("--yes",)
    begun = shell.run("server", command, SERVER, *agreed)
    job = begun.split("job watch ")[1].strip()
    assert shell.hub.asked[-1][0] == method
    assert shell.hub.asked[-1][1].endswith(ending)
    assert "job" in shell.run("job", "watch", job)
    followed = shell.run("server", command, SERVER, *agreed, "--wait")
    assert "✓" in followed
    assert followed.splitlines()[-1].endswith("done.")


def test_a_failed_job_names_task_cause_and_remedy(shell: Shell) -> None:
    shell.hub.hub.fail_jobs = True
    text = shell.run("server", "refresh", SERVER, "--wait", code=ExitCode.JOB_FAILED)
    assert "✗" in text
    assert "The requested operation failed. Invalid state. The host refused. Look at" in text
    job = next(reversed(shell.hub.hub.jobs))
    shown = json.loads(shell.out("job", "show", job, "-o", "json"))
    assert shown["state"] == "Failed"
    assert "Invalid state" in shown["failure"]


def test_waiting_ends(shell: Shell) -> None:
    shell.hub.hub.finish_jobs = False
    try:
        text = shell.run(
            *("server", "refresh", SERVER, "--wait", "--wait-seconds", "1"),
            code=ExitCode.TOOK_TOO_LONG,
        )
    finally:
        shell.hub.hub.finish_jobs = True
    assert "job watch" in text


def test_approvals_are_listed_and_decided(shell: Shell) -> None:
    path = "/hub/v1/vaults/v/approvals"
    waiting = {"id": "a1", "friendly_name": "vmm1", "decision": "pending"}
    done = {"id": "a2", "friendly_name": "vmm2", "decision": "approved"}
    shell.hub.answers["GET", path] = web.json_response({"approvals": [waiting, done]})
    for decision in ("approve", "reject"):
        shell.hub.answers["POST", f"{path}/a1/{decision}"] = web.json_response({})
        for named in ("a1", "VMM1"):
            shell.run("server", decision, named, "--yes")
            assert shell.hub.asked[-1] == ("POST", f"{path}/a1/{decision}")
        shell.run("server", decision, "vmm2", "--yes", code=ExitCode.NOT_FOUND)
        shell.run("server", decision, "vmm1", code=1, typed="n\n")
        assert shell.hub.asked[-1] == ("GET", path)
    assert "a1" in shell.out("server", "approvals")


def test_alerts_are_listed(shell: Shell) -> None:
    raised = [{"raised_at": "2026-03-04T13:54:53Z", "code": "TwoSessions", "message": "twice"}]
    shell.hub.answers["GET", "/hub/v1/vaults/v/alerts"] = web.json_response({"alerts": raised})
    assert "TwoSessions" in shell.out("server", "alerts")


def test_an_id_is_one_part_of_a_path_whatever_it_holds(shell: Shell) -> None:
    shell.run("vault", "revoke-key", "../../x?y#z", "--yes", code=ExitCode.NOT_OFFERED)
    path = shell.hub.asked[-1][1]
    assert path.startswith("/hub/v1/vaults/v/registration-keys/")
    assert path.endswith("/revoke")
    assert path.count("/") == "/hub/v1/vaults/v/registration-keys/x/revoke".count("/")


def test_revoking_a_server_names_it_by_its_own_id(shell: Shell) -> None:
    path = "/hub/v1/vaults/v/servers/provider-primary/revoke"
    shell.hub.answers["POST", path] = web.json_response({})
    assert "are revoked" in shell.run("server", "revoke", SERVER, "--yes")
    assert shell.hub.asked[-1] == ("POST", path)


# ------------------------------------------------------------------------------------ command line


def test_the_program_starts_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "site_recovery_cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stdout.startswith("site-recovery ")


def test_the_page_has_every_exit_code_and_command(fresh: Shell) -> None:
    page = (ROOT / "docs/cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in page
    for noun in (
        "vault",
        "server",
        "job",
        "failover",
        "protect",
        "cloud",
        "event",
        "policy",
        "network",
        "storage",
    ):
        for line in fresh.out(noun, "--help").partition("Commands:")[2].splitlines():
            if line.startswith("  ") and not line.startswith("   ") and line.strip():
                assert f"`{noun} {line.split()[0]}" in page
    assert set(MEANINGS) == set(ExitCode)
