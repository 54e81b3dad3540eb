"""`site-recovery event ...`: what happened that an operator has to see."""

from typing import Annotated, Any, Final

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.failures import explained
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName
from site_recovery_cli.output import Format, Row, say, show_list, show_one

LISTED_MAX: Final = 100
COLUMNS: Final = {
    "event": "Event",
    "at": "When",
    "severity": "Severity",
    "code": "Code",
    "affected": "Affected",
    "description": "What happened",
}

commands = typer.Typer(help="Events of the vault.", no_args_is_help=True)


@commands.command("list")
def list_all(
    *,
    severity: Annotated[
        str | None, typer.Option("--severity", help="Only those: Critical, Warning, ....")
    ] = None,
    affected: Annotated[
        str | None, typer.Option("--affected", help="Only those of the machine or server so named.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only those from then on, e.g. 2026-11-23T00:00Z.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=1, help="How many at most, the newest.")
    ] = LISTED_MAX,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List events, the newest first."""
    asked = {"Severity": severity, "AffectedObjectFriendlyName": affected, "StartTime": since}
    wanted = " and ".join(
        f"{name} eq '{value.replace(chr(39), chr(39) * 2)}'"
        for name, value in asked.items()
        if value is not None
    )

    async def work(connection: Connection) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        events = connection.recovery.replication_events
        with explained("list events", connection.hub):
            async for event in events.list(*connection.scope(vault), filter=wanted or None):
                if len(rows) == last:
                    return rows, True
                rows.append(_row(event))
        return rows, False

    rows, more = connected(profile, work)
    show_list(rows, COLUMNS, output)
    if more:
        say(f"There are more than {last}; --last N shows more of them.")


@commands.command("show")
def show(
    *,
    event: Annotated[str, typer.Argument(help="The event's id, as `event list` shows it.")],
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one event with what is wrong and what can be done."""

    async def work(connection: Connection) -> Row:
        events = connection.recovery.replication_events
        with explained(f"event {event}", connection.hub):
            found = await events.get(*connection.scope(vault), event)
        properties: Any = found.properties or models.EventProperties()
        errors = [
            f"{each.error_code} {each.error_message} {each.recommended_action or ''}".strip()
            for each in properties.health_errors or []
        ]
        job = getattr(properties.event_specific_details, "job_id", None)
        return {**_row(found), "job": job, "errors": errors}

    show_one(connected(profile, work), output)


def _row(event: models.Event) -> dict[str, Any]:
    properties = event.properties or models.EventProperties()
    at = properties.time_of_occurrence
    return {
        "event": event.name,
        "at": at.isoformat() if at else None,
        "severity": properties.severity,
        "code": properties.event_code,
        "type": properties.event_type,
        "affected": properties.affected_object_friendly_name,
        "description": properties.description,
    }
