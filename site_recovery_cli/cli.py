"""The command line `site-recovery`: its nouns, and how every error ends in one line."""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from service_shell.program import report_failure
from site_recovery_cli import (
    account_commands,
    audit_commands,
    authority_commands,
    change_command,
    cloud_commands,
    doctor_command,
    event_commands,
    failover_commands,
    inject_commands,
    job_commands,
    job_export_command,
    login_command,
    mapping_commands,
    plan_commands,
    policy_commands,
    preview_command,
    protect_commands,
    server_commands,
    vault_commands,
    waiting_command,
)
from site_recovery_cli.exit_codes import MEANINGS, ExitCode
from site_recovery_cli.options import OutputFormat
from site_recovery_cli.output import Format, show_list

PROGRAM: Final = "site-recovery"


class _ReportingGroup(TyperGroup):
    """All commands; a ProgramError of any of them becomes one line and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except Exception as error:
            raise typer.Exit(report_failure(error)) from error


application = typer.Typer(
    name=PROGRAM,
    cls=_ReportingGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    # Typer's own tracebacks would print local variables, and so the token.
    pretty_exceptions_enable=False,
)
application.add_typer(vault_commands.commands, name="vault")
application.add_typer(server_commands.commands, name="server")
application.add_typer(job_commands.commands, name="job")
application.add_typer(authority_commands.commands, name="authority")
application.add_typer(inject_commands.commands, name="inject")
application.add_typer(cloud_commands.commands, name="cloud")
application.add_typer(event_commands.commands, name="event")
application.add_typer(protect_commands.commands, name="protect")
application.add_typer(failover_commands.commands, name="failover")
application.add_typer(policy_commands.commands, name="policy")
application.add_typer(mapping_commands.network_commands, name="network")
application.add_typer(mapping_commands.storage_commands, name="storage")
application.add_typer(plan_commands.commands, name="plan")
application.add_typer(account_commands.commands, name="account")
application.add_typer(audit_commands.commands, name="audit")
job_export_command.add_export(job_commands.commands)
application.command("login")(login_command.login)
application.command("logout")(login_command.logout)
application.command("profiles")(login_command.list_profiles)
application.command("doctor")(doctor_command.doctor)
application.command("changes")(change_command.changes)
application.command("preview")(preview_command.preview)
application.command("waiting")(waiting_command.waiting)


@application.command("exit-codes")
def exit_codes(*, output: OutputFormat = Format.TABLE) -> None:
    """List what the exit codes of all commands say."""
    rows = [{"code": int(code), "meaning": meaning} for code, meaning in MEANINGS.items()]
    show_list(rows, {"code": "Code", "meaning": "Meaning"}, output)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {version('site-recovery-hub')}")
        raise typer.Exit


@application.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print it and exit."),
    ] = False,
) -> None:
    """Operate a Site Recovery Hub: vaults, registration keys, servers and jobs."""
    del version  # its callback has done all there is to do


def main() -> None:
    """Run the command line."""
    application()
