"""`site-recovery authority ...`: who may run, after a restore and against a fence."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName, Yes, confirm
from site_recovery_cli.output import Format, Row, say, show_list
from site_recovery_cli.override_command import override

COLUMNS = {
    "friendly_name": "Machine",
    "side": "Copy at",
    "server": "Server",
    "run_state": "Runs",
    "replication_mode": "Replicates as",
    "replication_state": "State",
    "fenced": "Fenced",
    "epoch": "Epoch",
    "seen_at": "Seen",
    "hub": "Hub says",
}
NOT_SEEN = "not seen since the restore"

commands = typer.Typer(
    help="Which copy of a machine may run: after a restore, and against a fence.",
    no_args_is_help=True,
)
commands.command("override")(override)


class Authority(StrEnum):
    """The end whose copy is to be the authoritative one."""

    PRIMARY = "primary"
    RECOVERY = "recovery"


@commands.command("list")
def list_questions(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List machines in question, with what both sites show of their copies."""

    async def work(connection: Connection) -> Sequence[Row]:
        return await connection.routes.authority_questions(await connection.vault_id(vault))

    questions = connected(profile, work)
    if output in {Format.JSON, Format.YAML}:
        show_list(questions, COLUMNS, output)
        return
    show_list([row for each in questions for row in _copies(each)], COLUMNS, output)


@commands.command("decide")
def decide(
    *,
    machine: Annotated[str, typer.Argument(help="The machine's name, or its item id.")],
    authoritative: Annotated[
        Authority, typer.Option("--authoritative", help="The end whose copy may run.")
    ],
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Say which copy is authoritative: the other one is stopped and fenced at both sites' word."""
    side = authoritative.value.capitalize()

    async def work(connection: Connection) -> Row:
        vault_id = await connection.vault_id(vault)
        question = _named(await connection.routes.authority_questions(vault_id), machine)
        for row in _copies(question):
            say(_words(row))
        for warning in question.get("warnings", {}).get(side, []):
            say(f"  warning: {warning}")
        name = question.get("friendly_name")
        confirm(f"Make the copy of {name} at {side} the authoritative one?", yes=yes)
        return await connection.routes.decide_authority(vault_id, str(question["item_id"]), side)

    made = connected(profile, work)
    say(
        f"{made.get('friendly_name')}: the copy at {side} is authoritative under epoch"
        f" {made.get('epoch')} ({made.get('state')}); both sites are told."
    )


def _copies(question: Row) -> list[Row]:
    copies: Mapping[str, Mapping[str, Any]] = question.get("copies", {})
    return [
        {
            **copy,
            "friendly_name": question.get("friendly_name"),
            "side": side,
            "run_state": copy.get("run_state") or NOT_SEEN,
            "hub": "authoritative" if question.get("hub_says") == side else "",
        }
        for side, copy in copies.items()
    ]


def _words(row: Row) -> str:
    shown = str(row["run_state"])
    if row.get("seen_at"):
        fenced = ", fenced" if row.get("fenced") else ""
        shown += (
            f", {row.get('replication_mode')} {row.get('replication_state')}{fenced},"
            f" epoch {row.get('epoch')}, seen {row['seen_at']}"
        )
    hub = "; the hub says: authoritative" if row["hub"] else ""
    return f"  {row['side']} ({row.get('server')}): {shown}{hub}"


def _named(questions: Sequence[Row], machine: str) -> Row:
    wanted = machine.lower()
    found = [
        each
        for each in questions
        if wanted in {str(each.get(field)).lower() for field in ("item_id", "friendly_name")}
    ]
    if len(found) != 1:
        raise CommandError(
            f"{len(found) or 'no'} machines named {machine} are in question;"
            " see: site-recovery authority list",
            ExitCode.USAGE if found else ExitCode.NOT_FOUND,
        )
    return found[0]
