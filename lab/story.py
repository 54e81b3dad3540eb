"""The guided story: twelve steps from an empty vault to a site that was lost and came back."""

import asyncio
import contextlib
import platform
import ssl
import subprocess
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Final

from lab import VERSION
from lab.builder import EstateBuilder
from lab.console import StoryConsole
from lab.management_client import ManagementClient
from lab.operator_file import OperatorFile
from lab.report import OperationName, Report, build_report
from lab.situation import Situation
from lab.story_disaster import fail_over_all, lose_site, site_comes_back
from lab.story_drill import drill
from lab.story_failover import planned, rehearse
from lab.story_protection import make_policy, pair, protect, watch_deltas
from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError, program_error_in
from vmm_simulator.guest.filesystem import find_tool
from wire_contract.vocabulary import Direction

TOOL_SECONDS_MAX: Final = 10.0
CHECKING_TOOLS: Final = ("debugfs", "e2fsck")


async def open_estate(builder: EstateBuilder) -> OperatorFile:
    """Steps 1 and 2, told as they happen; afterwards every provider is connected."""
    console = builder.console
    console.say(f"Estate {builder.estate.name}: network {builder.network.prefix}.0/24")
    console.wait("hub, VMM servers and disks")
    await builder.start_hub_and_sites()
    async with builder.operator() as operator:
        console.step(1, "A vault and its registration key")
        credentials = await builder.open_vault(operator)
        console.say(f"vault {operator.address.vault}; key {credentials.name}, valid for 5 days")
        console.step(2, "Every provider registers with it and reports its inventory")
        providers = await builder.register_providers(operator, credentials)
        for provider in providers.values():
            console.say(f"{provider.vmm_fqdn} is connected (fabric {provider.fabric[:12]}...)")
        return await builder.write_operator_file(providers)


@contextlib.asynccontextmanager
async def opened_situation(builder: EstateBuilder, file: OperatorFile) -> AsyncIterator[Situation]:
    """Open what steps work with, on the first pairing; ProgramError where there is none."""
    if not builder.estate.pairings:
        raise ProgramError("the story needs a pairing of two clouds; add `pairings` to the estate")
    async with contextlib.AsyncExitStack() as stack:
        operator = await stack.enter_async_context(builder.operator())
        management = {
            name: await stack.enter_async_context(
                ManagementClient(site.management_url, site.management_token, file.ca_file)
            )
            for name, site in file.sites.items()
        }
        yield Situation(builder, operator, file, builder.estate.pairings[0], management)


async def protect_estate(builder: EstateBuilder, file: OperatorFile) -> None:
    """Steps 3 to 5: the machines of the first pairing are protected."""
    async with opened_situation(builder, file) as situation:
        await _protected(situation)


async def tell_story(builder: EstateBuilder, file: OperatorFile) -> Report:
    """Steps 3 to 12; the report is written and returned, whatever it says."""
    seconds: dict[str, float] = {}
    async with opened_situation(builder, file) as situation:
        try:
            await _steps(situation, seconds)
        except Exception as error:
            known = program_error_in(error)
            cause = str(known) if known is not None else f"{type(error).__name__}: {error}"
            await _write_report(situation, seconds, cause)
            raise
    builder.console.step(12, "The report")
    return await _write_report(situation, seconds)


async def _protected(situation: Situation) -> None:
    console = situation.console
    console.step(3, "A replication policy")
    await make_policy(situation)
    console.step(4, f"{situation.pairing.primary} is paired with {situation.pairing.recovery}")
    await pair(situation)
    console.step(5, f"Protection of {', '.join(situation.pairing.protect)}")
    await protect(situation)


async def _steps(situation: Situation, seconds: dict[str, float]) -> None:
    console, loop = situation.console, asyncio.get_running_loop()
    first = situation.pairing.protect[0]
    other = situation.pairing.protect[-1]
    await _protected(situation)
    console.step(6, "Changes flow")
    await watch_deltas(situation)
    console.step(7, f"Test failover of {other}, without a network")
    await rehearse(situation, other)
    console.step(8, f"Planned failover of {first}, and replication back")
    await planned(situation, first, Direction.PRIMARY_TO_RECOVERY)
    seconds["seconds_to_first_failover"] = loop.time() - situation.builder.started_at
    console.step(9, f"Failback of {first}, and replication onward")
    await planned(situation, first, Direction.RECOVERY_TO_PRIMARY)
    console.step(10, f"Drill with {other}: the broker is away")
    await drill(situation, other)
    console.step(11, f"Disaster: {situation.primary_site} is lost")
    lost_at = await lose_site(situation)
    await fail_over_all(situation, lost_at)
    console.say(f"{situation.primary_site} comes back")
    await site_comes_back(situation)
    seconds["seconds"] = loop.time() - situation.builder.started_at


async def _write_report(
    situation: Situation, seconds: dict[str, float], broken_off: str | None = None
) -> Report:
    machines = len(situation.pairing.protect)
    expected: dict[OperationName, int] = {
        "test_failover": 1,
        "planned_failover": 1,
        "failback": 1,
        "unplanned_failover": machines,
        "reverse_replicate": 2 + machines,
    }
    report = build_report(
        situation.figures,
        situation.findings,
        expected,
        seconds,
        await asyncio.to_thread(_versions),
        tools_missing=any(find_tool(tool) is None for tool in CHECKING_TOOLS),
        broken_off=broken_off,
    )
    path = situation.builder.layout.report
    write_atomically(path, f"{report.model_dump_json(indent=2)}\n".encode())
    _show(situation.console, report)
    situation.console.say(f"report: {path}")
    return report


def _show(console: StoryConsole, report: Report) -> None:
    console.table(report.operations)
    findings = report.totals["findings"]
    for text in findings if isinstance(findings, list) else []:
        console.problem(str(text))
    if report.totals["not_done"]:
        console.problem(f"not done: {report.totals['not_done']}")
    if report.green:
        console.say("[bold green]Everything holds.[/bold green]")


def _versions() -> dict[str, str]:
    names = (
        *("azure-mgmt-recoveryservices", "azure-mgmt-recoveryservicessiterecovery"),
        *("aiohttp", "cryptography", "mqtt5", "SQLAlchemy"),
    )
    return {
        "site-recovery-hub": VERSION,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "openssl": ssl.OPENSSL_VERSION,
        "e2fsprogs": _e2fsprogs_version(),
        **{name: version(name) for name in names},
    }


def _e2fsprogs_version() -> str:
    tool = find_tool("e2fsck")
    if tool is None:
        return "missing"
    done = subprocess.run(  # noqa: S603 -- a tool found by name, our own words
        [tool, "-V"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TOOL_SECONDS_MAX,
        check=False,
    )
    lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
    return lines[0].strip() if lines else "unknown"
