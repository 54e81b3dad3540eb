"""`site-recovery policy`, `network` and `storage` against the ARM surface."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub
from tests.unit.arm.arm_estate import POLICY

PRIMARY, RECOVERY = "vmm.primary.example", "vmm.recovery.example"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


def test_policies_are_made_shown_and_deleted(shell: Shell) -> None:
    options = ("--frequency", "30", "--recovery-points", "4", "--replica", "delete")
    shell.run("policy", "create", "often", *options, "--compression", "--wait")
    made = shell.hub.hub.policies["often"]
    assert (made.replication_frequency_seconds, made.recovery_points) == (30, 4)
    assert made.replica_deletion_required
    assert made.compression
    names = {row["policy"] for row in json.loads(shell.out("policy", "list", "-o", "json"))}
    assert names == {POLICY, "often"}
    shown = json.loads(shell.out("policy", "show", "often", "-o", "json"))
    assert (shown["frequency_seconds"], shown["recovery_points"]) == (30, 4)
    shell.run("policy", "delete", "often", code=1, typed="n\n")
    assert "often" in shell.hub.hub.policies
    shell.run("policy", "delete", "often", "--yes")
    shell.run("policy", "show", "nothing", code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize(("noun", "part"), [("network", "corp"), ("storage", "Gold")])
def test_what_two_sites_have_is_listed_mapped_and_parted(
    shell: Shell, noun: str, part: str
) -> None:
    listed = json.loads(shell.out(noun, "list", "-o", "json"))
    assert {(row["name"], row["server"]) for row in listed} >= {(part, PRIMARY), (part, RECOVERY)}
    unclear = shell.run(noun, "map", part, f"{RECOVERY}/{part}", code=ExitCode.USAGE)
    assert f"{PRIMARY}/{part}" in unclear
    assert f"{RECOVERY}/{part}" in unclear
    shell.run(noun, "map", f"{PRIMARY}/{part}", f"{RECOVERY}/{part.upper()}", "--name", "m")
    (row,) = json.loads(shell.out(noun, "mappings", "-o", "json"))
    assert (row["mapping"], row["primary"], row["recovery"]) == (
        "m",
        f"{PRIMARY}/{part}",
        f"{RECOVERY}/{part}",
    )
    shell.run(noun, "unmap", "m", code=1, typed="n\n")
    shell.run(noun, "unmap", "M", "--yes")
    assert json.loads(shell.out(noun, "mappings", "-o", "json")) == []
    shell.run(noun, "unmap", "m", "--yes", code=ExitCode.NOT_FOUND)
