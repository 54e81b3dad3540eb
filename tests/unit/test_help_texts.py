"""Every command of every program says what it is for, and every option what it means."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from lab.cli import application as lab
from provider_agent.cli import application as provider_agent
from service_hub.cli import application as service_hub
from site_recovery_cli.cli import application as site_recovery

PROGRAMS = {
    "provider-agent": provider_agent,
    "service-hub": service_hub,
    "site-recovery": site_recovery,
    "site-recovery-lab": lab,
}
MADE_BY_TYPER = {"help", "install_completion", "show_completion"}


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {below}")


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_nothing_is_left_unsaid(program: str) -> None:
    found = dict(commands(typer.main.get_command(PROGRAMS[program]), program))
    assert len(found) > 3
    for name, command in found.items():
        text = (command.help or "").strip()
        assert text, f"{name} has no help"
        assert text.splitlines()[0].rstrip().endswith("."), f"{name}: {text}"
        for parameter in command.params:
            if parameter.name not in MADE_BY_TYPER:
                assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
