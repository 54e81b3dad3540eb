"""`site-recovery preview`: what an operation would do, without doing it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName
from site_recovery_cli.output import Format, Row, show_lines, show_list, show_one

COLUMNS: Final = {
    "friendly_name": "Task",
    "course": "Course",
    "sides": "On",
    "verb": "Told",
    "usually": "Usually",
}


class Operation(StrEnum):
    """What may be previewed."""

    ENABLE = "enable"
    TEST_FAILOVER = "test-failover"
    CLEAN_UP = "test-failover-cleanup"
    PLANNED_FAILOVER = "planned-failover"
    UNPLANNED_FAILOVER = "unplanned-failover"
    COMMIT = "commit"
    REVERSE_REPLICATE = "reverse-replicate"
    CHANGE_RECOVERY_POINT = "change-recovery-point"
    CANCEL_FAILOVER = "cancel-failover"
    REFRESH_SERVER = "refresh-server"
    REMOVE_SERVER = "remove-server"
    PURGE_SERVER = "purge-server"
    CANCEL_JOB = "cancel-job"
    RESTART_JOB = "restart-job"
    RESUME_JOB = "resume-job"


class Direction(StrEnum):
    """Where a failover goes."""

    AWAY = "primary-to-recovery"
    BACK = "recovery-to-primary"


NAMES: Final[Mapping[Operation, str]] = {
    Operation.ENABLE: "EnableProtection",
    Operation.TEST_FAILOVER: "TestFailover",
    Operation.CLEAN_UP: "TestFailoverCleanup",
    Operation.PLANNED_FAILOVER: "PlannedFailover",
    Operation.UNPLANNED_FAILOVER: "UnplannedFailover",
    Operation.COMMIT: "Commit",
    Operation.REVERSE_REPLICATE: "ReverseReplicate",
    Operation.CHANGE_RECOVERY_POINT: "ChangePit",
    Operation.CANCEL_FAILOVER: "CancelFailover",
    Operation.REFRESH_SERVER: "RefreshProvider",
    Operation.REMOVE_SERVER: "UnregisterFabric",
    Operation.PURGE_SERVER: "PurgeServer",
    Operation.CANCEL_JOB: "Cancel",
    Operation.RESTART_JOB: "Restart",
    Operation.RESUME_JOB: "Resume",
}
_ITEMS: Final = ("items", "item_id", "friendly_name", "protected machines")
_SERVERS: Final = ("servers", "provider_id", "friendly_name", "servers")
_TARGETS: Final = {
    Operation.ENABLE: ("machines", "machine_id", "name", "machines"),
    Operation.REFRESH_SERVER: _SERVERS,
    Operation.REMOVE_SERVER: _SERVERS,
    Operation.PURGE_SERVER: _SERVERS,
}
"""What operations are about: the route that lists it, its id, its name, and a word for many."""

_OF_JOBS: Final = frozenset({Operation.CANCEL_JOB, Operation.RESTART_JOB, Operation.RESUME_JOB})

DIRECTIONS: Final[Mapping[Direction, str]] = {
    Direction.AWAY: "PrimaryToRecovery",
    Direction.BACK: "RecoveryToPrimary",
}


def preview(
    *,
    operation: Annotated[Operation, typer.Argument(help="The operation.")],
    target: Annotated[
        str, typer.Argument(help="The machine's (or server's) name or id; a job's id.")
    ],
    direction: Annotated[
        Direction | None, typer.Option("--direction", help="Where it goes.")
    ] = None,
    with_source: Annotated[
        bool,
        typer.Option("--with-source", help="An unplanned failover that tries the source first."),
    ] = False,
    network: Annotated[
        str | None, typer.Option("--network", help="The network of a test machine, by its id.")
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show what an operation would do: tasks, what stops and starts, loss and duration.

    Nothing is changed. Exit code 6 when the operation would be refused.
    """

    async def work(connection: Connection) -> Row:
        vault_id = await connection.vault_id(vault)
        question: dict[str, Any] = {
            "operation": NAMES[operation],
            "target": await _target(connection, vault_id, operation, target),
        }
        if direction is not None:
            question["direction"] = DIRECTIONS[direction]
        if with_source:
            question["source_operations_required"] = True
        if network is not None:
            question["network_id"] = network
        return await connection.routes.preview(vault_id, question)

    show_preview(connected(profile, work), output)


def show_preview(told: Row, output: Format) -> None:
    """Print a preview; leaves with REFUSED where the operation would be refused."""
    if output is Format.TABLE:
        _show(told)
    else:
        show_one(told, output)
    if not told.get("allowed"):
        raise typer.Exit(ExitCode.REFUSED)


async def item_id_of(connection: Connection, vault_id: str, machine: str) -> str:
    """Return the id of a protected item by its machine's name or the id itself; CommandError."""
    return await _named(connection, vault_id, _ITEMS, machine)


async def _target(connection: Connection, vault_id: str, operation: Operation, target: str) -> str:
    """Return the id of what is named: a protected item, a machine to protect, a server, a job."""
    if operation in _OF_JOBS:
        return target
    return await _named(connection, vault_id, _TARGETS.get(operation, _ITEMS), target)


async def _named(
    connection: Connection, vault_id: str, listed: tuple[str, str, str, str], target: str
) -> str:
    kind, key, name, what = listed
    found = {
        str(row.get(key))
        for row in await connection.routes.seen(vault_id, kind)
        if target.lower() in {str(row.get(key)).lower(), str(row.get(name)).lower()}
    }
    if len(found) != 1:
        raise CommandError(
            f"{len(found) or 'no'} {what} are named {target}; name one by its id",
            ExitCode.USAGE if found else ExitCode.NOT_FOUND,
        )
    return found.pop()


def _show(told: Row) -> None:
    show_lines(_head(told))
    show_list([_task(row) for row in _rows(told, "tasks")], COLUMNS, Format.TABLE)
    loss, duration = told.get("expected_loss") or {}, told.get("expected_duration") or {}
    show_lines(
        [
            *(f"{_effect(each)}" for each in _rows(told, "effects")),
            *_members(told),
            *(f"Note: {each}." for each in told.get("notes") or []),
            f"Expected loss: {_loss(loss)}",
            f"Expected duration: {duration.get('words')}",
        ]
    )


def _members(told: Row) -> list[str]:
    """Say which machines of a plan, or partners of a server, would be refused."""
    refused = []
    for each in told.get("members") or []:
        refusal = each.get("refusal")
        if refusal:
            words = f"{refusal.get('message')} {refusal.get('possible_causes')}"
            refused.append(f"{each.get('target_name')} would be refused: {words}")
    return refused


def _head(told: Row) -> list[str]:
    lines = [f"{told.get('operation')} of {told.get('target_name')}, {told.get('direction')}:"]
    refusal = told.get("refusal")
    if refusal:
        lines.append(f"would be refused ({refusal.get('code')}): {refusal.get('message')}")
        more = f"{refusal.get('possible_causes')} {refusal.get('recommended_action')}".strip()
        lines += [f"  {more}"] if more else []
    else:
        lines.append("would be allowed now.")
    if told.get("operator_signature_required"):
        lines.append("The vault takes it only with an operator's signature.")
    return lines


def _task(row: Row) -> Row:
    usual = row.get("usual")
    usually = "" if not usual else f"{usual['median_seconds']:g} s"
    return {**row, "sides": ", ".join(row.get("sides") or []), "usually": usually}


def _effect(row: Row) -> str:
    action = str(row.get("action")).capitalize()
    return f"{action} at {row.get('side')} ({row.get('server')}): {row.get('words')}"


def _loss(loss: Mapping[str, Any]) -> str:
    words, seconds = str(loss.get("words")), loss.get("seconds")
    if not seconds:
        return words
    age = loss.get("age_seconds")
    stale = ", which is stale" if loss.get("stale") else ""
    seen = "" if age is None else f" (seen {age:.0f} s ago{stale})"
    return f"{seconds:.0f} s, {words}{seen}"


def _rows(told: Row, field: str) -> Sequence[Row]:
    rows = told.get(field)
    if not isinstance(rows, list):
        raise CommandError(
            f"the hub's answer has no list of {field}; is the hub of another version?",
            ExitCode.NOT_OFFERED,
        )
    return rows
