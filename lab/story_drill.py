"""Step 10: a shipped scenario, run by the operator's own command line while all else goes on."""

from pathlib import Path
from typing import Final

from lab.processes import program, run_to_end
from lab.situation import Situation
from service_shell.secret_files import write_secret

SCENARIO: Final = Path(__file__).parents[1] / "deploy/scenarios/broker-away.yaml"
COMMAND_SECONDS_MAX: Final = 60.0
SCENARIO_SECONDS_MAX: Final = 300.0


async def drill(situation: Situation, name: str) -> None:
    """Run the scenario on one machine; ProgramError with what it said when a step did not hold."""
    builder, layout, file = situation.builder, situation.builder.layout, situation.file
    if builder.estate.lines != "relayed":
        situation.console.say(f"not run: {SCENARIO.name} needs an estate with `lines: relayed`")
        return
    token = layout.root / "drill.token"
    write_secret(token, file.token.encode())
    command = program("site-recovery")
    own = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(layout.root / "profiles")}
    login = (
        *(command, "login", "--hub", file.base_url, "--ca-file", file.ca_file),
        *("--token-file", str(token), "--vault", file.vault),
        *("--subscription", file.subscription_id, "--resource-group", file.resource_group),
    )
    await run_to_end(layout, login, COMMAND_SECONDS_MAX, own)
    sites = [builder.plans[each].site for each in (situation.primary_site, situation.recovery_site)]
    run = (
        *(command, "inject", "run", str(SCENARIO), "--laboratory", str(layout.root)),
        *("--junit", str(layout.root / "drill.xml"), "--set", f"item={name}"),
        *("--set", f"site={sites[0].vmm.fqdn}", "--set", f"partner={sites[1].vmm.fqdn}"),
    )
    for line in (await run_to_end(layout, run, SCENARIO_SECONDS_MAX, own)).splitlines():
        situation.console.say(line)
