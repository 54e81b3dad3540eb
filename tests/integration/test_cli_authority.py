"""The command line after a restore: what both sites show, and who decides which copy may run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


QUESTION = {
    "item_id": "item-1",
    "friendly_name": "web01",
    "hub_says": "Primary",
    "state": "Protected",
    "epoch": 11,
    "copies": {
        "Primary": {"server": "vmm-a", "seen_at": None},
        "Recovery": {
            "server": "vmm-b",
            "seen_at": "2026-01-01T00:00:00+00:00",
            "run_state": "Running",
            "replication_mode": "Primary",
            "replication_state": "REPLICATING",
            "fenced": False,
            "epoch": 9,
        },
    },
    "warnings": {"Primary": ["it is stopped"], "Recovery": ["the hub says otherwise"]},
}


def test_who_may_run_is_shown_from_both_sites_and_decided(shell: Shell) -> None:
    path = "/hub/v1/vaults/v/authority-questions"
    shell.hub.answers["GET", path] = web.json_response({"questions": [QUESTION]})
    shell.hub.answers["POST", f"{path}/item-1/decide"] = web.json_response(
        {**QUESTION, "epoch": 12}
    )
    table = shell.out("authority", "list")
    assert "not seen since the restore" in table
    assert "REPLICATING" in table
    decide = ("authority", "decide", "WEB01", "--authoritative")
    shell.hub.asked.clear()
    text = shell.run(*decide, "recovery", typed="n\n", code=1)
    assert "Recovery (vmm-b): Running, Primary REPLICATING, epoch 9" in text
    assert "warning: the hub says otherwise" in text
    assert "it is stopped" not in text
    assert ("POST", f"{path}/item-1/decide") not in shell.hub.asked, "no is no"
    text = shell.run(*decide, "recovery", "--yes")
    assert "the copy at Recovery is authoritative under epoch 12" in text
    text = shell.run("authority", "decide", "db", "--authoritative", "primary", code=5)
    assert "no machines named db are in question" in text
    shell.run(*decide, "both", code=ExitCode.USAGE)


def test_a_fence_is_overridden_for_a_reason_after_a_look_at_what_comes_of_it(shell: Shell) -> None:
    base = "/hub/v1/vaults/v"
    shell.hub.answers["GET", f"{base}/items"] = web.json_response(
        {"items": [{"item_id": "item-1", "friendly_name": "web01"}]}
    )
    told: dict[str, Any] = {"operation": "OverrideFence", "target_name": "web01", "allowed": True}
    told |= {"tasks": [], "effects": []}
    shell.hub.answers["POST", f"{base}/preview"] = web.json_response(told)
    order = ("POST", f"{base}/items/item-1/override-fence")
    shell.hub.answers[order] = web.json_response({"jobId": "job-1"}, status=202)
    words = ("authority", "override", "WEB01", "--reason", "the other site burns")
    shell.hub.asked.clear()
    text = shell.run(*words, typed="n\n", code=1)
    assert "OverrideFence of web01" in text
    assert "stop and fence the other copy" in text
    assert order not in shell.hub.asked, "no is no"
    text = shell.run(*words, "--other-copy-lost", "--yes")
    assert "site-recovery job watch job-1" in text
    assert order in shell.hub.asked
    shell.run("authority", "override", "web01", code=ExitCode.USAGE)
    # What would be refused is not asked for.
    refusal = {"code": "90117", "message": "The other copy of web01 isn't lost."}
    shell.hub.answers["POST", f"{base}/preview"] = web.json_response(
        {**told, "allowed": False, "refusal": refusal}
    )
    shell.hub.asked.clear()
    assert "isn't lost" in shell.run(*words, "--yes", code=ExitCode.REFUSED)
    assert order not in shell.hub.asked
