"""`site-recovery plan ...`: recovery plans, shown, exported, imported and previewed."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from service_shell.errors import ProgramError
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_options import JobOptions, with_job_options
from site_recovery_cli.job_progress import follow_job
from site_recovery_cli.options import (
    WAIT_SECONDS,
    OutputFormat,
    ProfileName,
    VaultName,
)
from site_recovery_cli.output import (
    NOTHING,
    Format,
    Row,
    say,
    show_lines,
    show_list,
    show_one,
)
from site_recovery_cli.preview_command import DIRECTIONS, NAMES, Direction, Operation, show_preview
from wire_contract.plan_documents import DOCUMENT_BYTES_MAX, PlanDocument

COLUMNS: Final = {
    "name": "Plan",
    "primary": "Primary",
    "recovery": "Recovery",
    "groups": "Groups",
    "machines": "Machines",
    "doing": "Now",
    "allowed": "Allowed",
}
YAML_SUFFIXES: Final = frozenset({".yaml", ".yml"})

commands = typer.Typer(help="Recovery plans.", no_args_is_help=True)

PlanArgument = Annotated[str, typer.Argument(help="The plan's name.")]


class DocumentForm(StrEnum):
    """How a plan is written as a document."""

    YAML = "yaml"
    JSON = "json"


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the plans with their size, what they do now and what they allow."""

    async def work(connection: Connection) -> list[Row]:
        plans = connection.recovery.replication_recovery_plans
        with explained("list plans", connection.hub):
            return [_row(each) async for each in plans.list(*connection.scope(vault))]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("show")
def show(
    *,
    plan: PlanArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one plan: when it ran, and its groups with machines and actions, as exported."""

    async def work(connection: Connection) -> Row:
        plans = connection.recovery.replication_recovery_plans
        with explained(f"show plan {plan}", connection.hub):
            found = await plans.get(*connection.scope(vault), plan)
        vault_id = await connection.vault_id(vault)
        document = json.loads(await connection.routes.export_plan(vault_id, plan, "json"))
        properties: Any = found.properties
        return {
            **_row(found),
            "last_planned_failover_at": _moment(properties.last_planned_failover_time),
            "last_unplanned_failover_at": _moment(properties.last_unplanned_failover_time),
            "last_test_failover_at": _moment(properties.last_test_failover_time),
            "groups": document["groups"],
        }

    told = connected(profile, work)
    if output is not Format.TABLE:
        show_one(told, output)
        return
    show_one({name: value for name, value in told.items() if name != "groups"}, output)
    show_lines(_group_lines(told["groups"]))


@commands.command("export")
def export(
    *,
    plan: PlanArgument,
    form: Annotated[
        DocumentForm, typer.Option("--format", help="How it is written.")
    ] = DocumentForm.YAML,
    file: Annotated[
        Path | None,
        typer.Option("--file", dir_okay=False, help="Write it there, a new file (0600)."),
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
) -> None:
    """Write a plan as a document that names servers and machines, for `plan import`."""

    async def work(connection: Connection) -> bytes:
        vault_id = await connection.vault_id(vault)
        return await connection.routes.export_plan(vault_id, plan, form.value)

    document = connected(profile, work)
    if file is None:
        sys.stdout.buffer.write(document)
        sys.stdout.buffer.flush()
        return
    _write(document, file)
    say(f"exported to {file}")


@commands.command("import")
@with_job_options
def take_in(
    *,
    plan: PlanArgument,
    file: Annotated[
        Path, typer.Argument(dir_okay=False, help="The document; YAML where it ends in .yaml.")
    ],
    given: JobOptions,
) -> None:
    """Save the plan of a document under this name; one that is there gets these groups."""
    content = _read(file)
    kind = "yaml" if file.suffix.lower() in YAML_SUFFIXES else "json"

    async def work(connection: Connection) -> None:
        vault_id = await connection.vault_id(given.vault)
        told = await connection.routes.import_plan(vault_id, plan, content, f"application/{kind}")
        job = str(told.get("job_id"))
        say(f"plan {plan}: job {job}")
        if given.wait_seconds is not None or told.get("state") == "Failed":
            seconds = given.wait_seconds or WAIT_SECONDS
            await follow_job(connection, connection.scope(given.vault), job, seconds)

    connected(given.profile, work)


@commands.command("preview")
def preview(
    *,
    plan: PlanArgument,
    operation: Annotated[Operation, typer.Argument(help="The operation.")],
    direction: Annotated[
        Direction | None, typer.Option("--direction", help="Where it goes.")
    ] = None,
    with_source: Annotated[
        bool,
        typer.Option("--with-source", help="An unplanned failover that tries the sources first."),
    ] = False,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show what an operation of a plan would do: groups, actions, machines, loss and duration.

    Nothing is changed. Exit code 6 when the operation would be refused.
    """
    question: dict[str, Any] = {"operation": NAMES[operation], "plan": plan}
    if direction is not None:
        question["direction"] = DIRECTIONS[direction]
    if with_source:
        question["source_operations_required"] = True

    async def work(connection: Connection) -> Mapping[str, Any]:
        return await connection.routes.preview(await connection.vault_id(vault), question)

    show_preview(connected(profile, work), output)


@commands.command("schema")
def schema() -> None:
    """Print the JSON Schema of plans' documents."""
    typer.echo(json.dumps(PlanDocument.model_json_schema(), indent=2))


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _group_lines(groups: Any) -> list[str]:
    """Return the groups in words, Boot groups by their numbers, actions in their order."""
    lines, number = [], 0
    for group in groups:
        kind = group.get("type", "Boot")
        number += kind == "Boot"
        title = f"Group {number}" if kind == "Boot" else f"All groups {kind.lower()}"
        lines += [f"  before: {_action(each)}" for each in group.get("before", [])]
        names = ", ".join(group.get("machines", [])) or NOTHING
        lines.append(f"{title}: {names}" if kind == "Boot" else title)
        lines += [f"  after: {_action(each)}" for each in group.get("after", [])]
    return lines


def _action(action: Any) -> str:
    script = action.get("script")
    does = f"by a person: {action.get('manual')}"
    if script is not None:
        undo = f", undone by {script['undo_path']}" if script.get("undo_path") else ""
        does = f"{script['path']} at {script['side']}{undo}"
    when = ", ".join((*action["kinds"], *action.get("directions", [])))
    return f"{action['name']} ({when}): {does}"


def _row(plan: Any) -> dict[str, Any]:
    properties = plan.properties
    groups = [each for each in properties.groups or [] if each.group_type == "Boot"]
    current = properties.current_scenario
    return {
        "name": plan.name,
        "primary": properties.primary_fabric_friendly_name,
        "recovery": properties.recovery_fabric_friendly_name,
        "groups": len(groups),
        "machines": sum(len(each.replication_protected_items or []) for each in groups),
        "doing": None if current is None else current.scenario_name,
        "allowed": ", ".join(properties.allowed_operations or []),
    }


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(
            f"cannot read {file}: {error.strerror}; name a plan's document", ExitCode.USAGE
        ) from error
    if len(content) > DOCUMENT_BYTES_MAX:
        raise CommandError(
            f"{file} has more than {DOCUMENT_BYTES_MAX} bytes; make several plans of it",
            ExitCode.USAGE,
        )
    return content


def _write(document: bytes, file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(document)
    except OSError as error:
        raise ProgramError(f"cannot write {file} ({error}); name a file that does not exist") from (
            error
        )
