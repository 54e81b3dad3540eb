"""`site-recovery inject ...`: failover events put in from outside, and files of them."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.junit import write_report
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName
from site_recovery_cli.output import Format, Row, say, show_lines, show_list, show_one
from site_recovery_cli.scenario_estate import HubEstate
from site_recovery_cli.scenario_files import Scenario, Target, load_scenario
from site_recovery_cli.scenario_run import ScenarioRun, StepOutcome

COLUMNS: Final = {
    "injectionId": "Injection",
    "kind": "Kind",
    "state": "State",
    "nextAt": "Next",
    "jobId": "Job",
    "message": "Says",
}

FileArgument = Annotated[Path, typer.Argument(dir_okay=False, help="The scenario file.")]
Changes = Annotated[
    list[str], typer.Option("--set", help="NAME=VALUE: another value for a variable of the file.")
]

commands = typer.Typer(help="Inject failover events, and run files of them.", no_args_is_help=True)


@commands.command("run")
def run_file(
    *,
    file: FileArgument,
    changes: Changes = [],  # noqa: B006 -- typer copies defaults
    junit: Annotated[
        Path | None, typer.Option("--junit", dir_okay=False, help="Write a JUnit report here.")
    ] = None,
    laboratory: Annotated[
        Path | None,
        typer.Option("--laboratory", help="Folder of a lab whose processes the file reaches."),
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
) -> None:
    """Run a scenario; exit code 0 only if every step went well and every expectation held."""
    scenario = load_scenario(file, _changes(changes))

    async def work(connection: Connection) -> list[StepOutcome]:
        run = ScenarioRun(HubEstate(connection, vault), laboratory, _tell)
        return await run.run(scenario)

    outcomes = connected(profile, work)
    if junit is not None:
        write_report(junit, scenario.scenario, outcomes)
    failed = [each for each in outcomes if each.problem is not None]
    if failed:
        raise CommandError(
            f"{scenario.scenario}: '{failed[0].name}' failed: {failed[0].problem}",
            ExitCode.JOB_FAILED,
        )
    say(f"{scenario.scenario}: all {len(outcomes)} steps held.")


@commands.command("validate")
def validate(*, file: FileArgument, changes: Changes = []) -> None:  # noqa: B006 -- typer copies
    """Check a scenario file without a hub."""
    scenario = load_scenario(file, _changes(changes))
    say(f"{scenario.scenario}: {len(scenario.steps)} steps, all well formed.")


@commands.command("schema")
def schema() -> None:
    """Print the JSON Schema of scenario files."""
    typer.echo(json.dumps(Scenario.model_json_schema(), indent=2))


@commands.command("schedule")
def schedule(
    *,
    kind: Annotated[str, typer.Argument(help="The kind, such as test_failover.")],
    item: Annotated[str | None, typer.Option(help="Into this protected machine.")] = None,
    plan: Annotated[str | None, typer.Option(help="Into this recovery plan.")] = None,
    container: Annotated[str | None, typer.Option(help="Into all machines of this cloud.")] = None,
    fabric: Annotated[str | None, typer.Option(help="Into the site of this server.")] = None,
    target: Annotated[str | None, typer.Option(help="Into what has this ARM id.")] = None,
    at: Annotated[str | None, typer.Option(help="When: 2026-01-31T12:00:00Z.")] = None,
    cron: Annotated[str | None, typer.Option(help="Again and again (UTC): '30 2 * * 6'.")] = None,
    arguments: Annotated[str, typer.Option(help="Properties of the request, as JSON.")] = "{}",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would do.")] = False,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Inject an event now, at a time, or again and again."""
    named = {"item": item, "plan": plan, "container": container, "fabric": fabric, "id": target}
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) != 1:
        raise CommandError(
            "name one of --item, --plan, --container, --fabric and --target", ExitCode.USAGE
        )
    event: dict[str, Any] = {"kind": kind, "arguments": _object(arguments)}
    event |= {name: value for name, value in (("at", at), ("cron", cron)) if value is not None}
    if dry_run:
        event["dryRun"] = True

    async def work(connection: Connection) -> Row:
        estate = HubEstate(connection, vault)
        event["target"] = await estate.id_of(Target.model_validate(given))
        return await estate.send(event)

    told = connected(profile, work)
    if dry_run and output is Format.TABLE:
        tasks = told.get("tasks") or []
        names = [each.get("friendly_name") or each.get("friendlyName") for each in tasks]
        show_lines(["Nothing was changed. It would:", *(f"  {each}" for each in names)])
    else:
        show_one(told, output)


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List what was injected and what is scheduled, the newest first."""

    async def work(connection: Connection) -> list[dict[str, Any]]:
        return await connection.routes.injections(await connection.vault_id(vault))

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("cancel")
def cancel(
    *,
    injection: Annotated[str, typer.Argument(help="The injection's id.")],
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Have nothing more come of a scheduled injection."""

    async def work(connection: Connection) -> Row:
        vault_id = await connection.vault_id(vault)
        return await connection.routes.cancel_injection(vault_id, injection)

    show_one(connected(profile, work), output)


def _tell(outcome: StepOutcome) -> None:
    word = "skipped" if outcome.skipped else "failed" if outcome.problem else "ok"
    more = outcome.problem or outcome.detail
    show_lines([f"{word:8}{outcome.seconds:8.1f} s  {outcome.name}{f': {more}' if more else ''}"])


def _changes(given: list[str]) -> dict[str, str]:
    changes = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise CommandError(f"--set {each}: give NAME=VALUE", ExitCode.USAGE)
        changes[name] = value
    return changes


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CommandError("--arguments must be a JSON object", ExitCode.USAGE)
    return value
