"""`site-recovery failover ...`: machines and plans, failed over, tested, committed, reversed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.fabric_parts import find_network
from site_recovery_cli.failover_requests import (
    CANCEL,
    CHANGE_POINT,
    CLEANUP,
    COMMIT,
    PLANNED,
    PROVIDER,
    RESYNCHRONIZE,
    REVERSE,
    TEST,
    UNPLANNED,
    Body,
    Request,
    chosen_point_body,
    comments_body,
    failover_body,
    network_part,
    point_details,
)
from site_recovery_cli.failures import CommandError
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.output import say
from site_recovery_cli.plan_orders import scripts_to_sign
from site_recovery_cli.preview_command import DIRECTIONS, Direction
from site_recovery_cli.protected_targets import Target, find_machine, find_plan
from wire_contract.operator_signature import SignedOperation

commands = typer.Typer(
    help="Failovers of protected machines and of recovery plans.", no_args_is_help=True
)

TargetName = Annotated[
    str, typer.Argument(help="The machine's name, CLOUD/NAME or id; with --plan the plan's name.")
]
Plan = Annotated[bool, typer.Option("--plan", help="The target is a recovery plan.")]
Way = Annotated[
    Direction | None,
    typer.Option("--direction", help="Where it goes; by default away from where it runs."),
]
Point = Annotated[
    str | None,
    typer.Option("--recovery-point", help="The id of a recovery point; by default the newest."),
]


class SourceChanges(StrEnum):
    """What becomes of what a former source alone holds."""

    KEEP = "keep"
    DISCARD = "discard"


_UNTESTED_NETWORK = (
    "No --network: test machines start connected to nothing; networks stay untested."
)

Bodies = Callable[[Connection, Target], Awaitable[Body | None]]


@dataclass(frozen=True, slots=True)
class _Order:
    """An operation on a target, as the command line names both."""

    request: Request
    target: str
    plan: bool
    given: JobOptions

    def give(self, body: Bodies) -> None:
        """Refuse what is not allowed, ask, send, and follow the job where that is wished."""

        async def work(connection: Connection) -> None:
            find = find_plan if self.plan else find_machine
            target = await find(connection, self.given.vault, self.target)
            what = f"{self.request.words} {target.name}"
            target.require(self.request.operation, what)
            content = await body(connection, target)
            if self.request.question is not None:
                self.given.confirm(self.request.question.format(target.name))
            arguments = target.path if content is None else (*target.path, content)
            method = getattr(target.operations, self.request.method)
            begin = partial(method, *arguments)
            if target.is_plan and connection.signing is not None:
                named = (content or {}).get("properties", {}).get("failoverDirection")
                operation = self.request.operation
                scripts = await scripts_to_sign(
                    connection, self.given.vault, target.resource, operation, named
                )
                signed = connection.signing.for_plan(
                    SignedOperation(operation), target.members, target.direction, scripts
                )
                begin = partial(begin, raw_request_hook=signed)
            await carry_out(connection, self.given.vault, what, begin, self.given.wait_seconds)

        connected(self.given.profile, work)


@commands.command("test")
@with_job_options
def start_test(
    *,
    target: TargetName,
    plan: Plan = False,
    network: Annotated[
        str | None,
        typer.Option("--network", help="The VM network (name, SERVER/NAME) of the test machines."),
    ] = None,
    recovery_point: Point = None,
    direction: Way = None,
    given: JobOptions,
) -> None:
    """Start test copies, connected to nothing or to a network; replication goes on."""
    _points_are_of_machines(recovery_point, plan=plan)

    async def body(connection: Connection, found: Target) -> Body:
        chosen = None if network is None else await find_network(connection, given.vault, network)
        network_id = None if chosen is None else chosen.resource.id
        if network_id is None:
            say(_UNTESTED_NETWORK)
        return failover_body(
            _way(found, direction),
            **network_part(network_id),
            providerSpecificDetails=point_details(recovery_point),
        )

    _Order(TEST, target, plan, given).give(body)


@commands.command("cleanup")
@asking_with_job_options
def cleanup(
    *,
    target: TargetName,
    plan: Plan = False,
    comments: Annotated[
        str, typer.Option("--comments", help="What the test showed; kept with the job.")
    ] = "",
    given: JobOptions,
) -> None:
    """End a test failover: its test machines are deleted."""

    async def body(connection: Connection, found: Target) -> Body:
        del connection, found
        return comments_body(comments)

    _Order(CLEANUP, target, plan, given).give(body)


@commands.command("planned")
@asking_with_job_options
def planned(
    *,
    target: TargetName,
    plan: Plan = False,
    direction: Way = None,
    given: JobOptions,
) -> None:
    """Shut down, send the last changes, start at the other site: nothing is lost."""

    async def body(connection: Connection, found: Target) -> Body:
        del connection
        return failover_body(_way(found, direction))

    _Order(PLANNED, target, plan, given).give(body)


@commands.command("unplanned")
@asking_with_job_options
def unplanned(
    *,
    target: TargetName,
    plan: Plan = False,
    with_source: Annotated[
        bool,
        typer.Option("--with-source", help="Try to shut down the source and to send the rest."),
    ] = False,
    recovery_point: Point = None,
    direction: Way = None,
    given: JobOptions,
) -> None:
    """Start at the other site from a recovery point; what came after the point is lost."""
    _points_are_of_machines(recovery_point, plan=plan)

    async def body(connection: Connection, found: Target) -> Body:
        del connection
        return failover_body(
            _way(found, direction),
            sourceSiteOperations="Required" if with_source else "NotRequired",
            providerSpecificDetails=point_details(recovery_point),
        )

    _Order(UNPLANNED, target, plan, given).give(body)


@commands.command("commit")
@asking_with_job_options
def commit(
    *,
    target: TargetName,
    plan: Plan = False,
    given: JobOptions,
) -> None:
    """Accept a failover and its point; it cannot be cancelled after that."""
    _Order(COMMIT, target, plan, given).give(_nothing)


@commands.command("cancel")
@asking_with_job_options
def cancel(
    *,
    target: TargetName,
    plan: Plan = False,
    given: JobOptions,
) -> None:
    """Take a failover back before its commit."""
    _Order(CANCEL, target, plan, given).give(_nothing)


@commands.command("change-point")
@asking_with_job_options
def change_point(
    *,
    target: Annotated[str, typer.Argument(help="The machine's name, CLOUD/NAME or id.")],
    recovery_point: Annotated[
        str,
        typer.Option("--recovery-point", help="The id of a recovery point, see protect points."),
    ],
    given: JobOptions,
) -> None:
    """Fail over again to another recovery point, before the commit."""

    async def body(connection: Connection, found: Target) -> Body:
        del connection, found
        return chosen_point_body(recovery_point)

    _Order(CHANGE_POINT, target, plan=False, given=given).give(body)


@commands.command("resynchronize")
@with_job_options
def resynchronize(
    *,
    target: Annotated[str, typer.Argument(help="The machine's name, CLOUD/NAME or id.")],
    given: JobOptions,
) -> None:
    """Have both copies compared and made the same, where changes alone do not suffice any more."""
    _Order(RESYNCHRONIZE, target, plan=False, given=given).give(_nothing)


@commands.command("reverse")
@asking_with_job_options
def reverse(
    *,
    target: TargetName,
    plan: Plan = False,
    source_changes: Annotated[
        SourceChanges | None,
        typer.Option(
            "--source-changes",
            help="After an unplanned failover: keep or discard what the former source alone holds.",
        ),
    ] = None,
    direction: Way = None,
    given: JobOptions,
) -> None:
    """Replicate back from where the machine runs now; `--direction`: of the next failover."""
    if plan and source_changes is not None:
        raise CommandError(
            "--source-changes is said for each machine; reverse them one by one, without --plan",
            ExitCode.USAGE,
        )

    async def body(connection: Connection, found: Target) -> Body | None:
        del connection
        if plan:
            return None
        chosen = None if source_changes is None else source_changes.value.capitalize()
        return failover_body(
            _way(found, direction),
            providerSpecificDetails={"instanceType": PROVIDER},
            sourceChanges=chosen,
        )

    _Order(REVERSE, target, plan, given).give(body)


async def _nothing(connection: Connection, found: Target) -> None:
    del connection, found


def _way(target: Target, named: Direction | None) -> str:
    if named is not None:
        return DIRECTIONS[named]
    if target.direction is None:
        raise CommandError(
            f"the machines of {target.name} do not all run at one site; add --direction",
            ExitCode.USAGE,
        )
    return target.direction.value


def _points_are_of_machines(point: str | None, *, plan: bool) -> None:
    if plan and point is not None:
        raise CommandError(
            "a recovery point belongs to one machine; leave --recovery-point or --plan out",
            ExitCode.USAGE,
        )
