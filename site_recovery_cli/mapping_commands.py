"""`site-recovery network ...` and `storage ...`: what two sites have, and what stands for what."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.fabric_parts import (
    find_classification,
    find_network,
    list_classifications,
    list_networks,
)
from site_recovery_cli.failures import explained
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.named_resources import Named, choose, listed
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
)
from site_recovery_cli.output import Format, Row, show_list

COLUMNS: Final = {"name": "Name", "server": "Server", "id": "Id"}
MAPPING_COLUMNS: Final = {"mapping": "Mapping", "primary": "Primary", "recovery": "Recovery"}

Parts = Callable[[Connection, str | None], Awaitable[list[Named]]]
Part = Callable[[Connection, str | None, str], Awaitable[Named]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What networks and storage classifications have in common, and what tells them apart."""

    noun: str
    word: str
    parts: Parts
    part: Part
    group: Callable[[Connection], Any]
    target: Callable[[Any], str | None]
    """The id of what a mapping's properties map to."""
    body: Callable[[Named], Mapping[str, Any]]

    async def mappings(self, connection: Connection, vault: str | None) -> list[tuple[Named, Row]]:
        """Return the mappings, each with its row: both ends by name."""
        known = {
            str(each.resource.id).lower(): each.full_name
            for each in await self.parts(connection, vault)
        }
        with explained(f"list {self.noun} mappings", connection.hub):
            found = await listed(self.group(connection).list(*connection.scope(vault)))
        rows: list[tuple[Named, Row]] = []
        for each in found:
            source = str(each.id).rpartition("/")[0].rpartition("/")[0]
            target = self.target(each.properties) or ""
            primary = known.get(source.lower(), source)
            row = {
                "mapping": each.name,
                "primary": primary,
                "recovery": known.get(target.lower(), target),
                "id": each.id,
            }
            rows.append((Named(each, str(each.name), primary), row))
        return rows


NETWORKS: Final = _Kind(
    "network",
    "network",
    list_networks,
    find_network,
    lambda connection: connection.recovery.replication_network_mappings,
    lambda properties: properties.recovery_network_id,
    lambda target: {
        "recoveryFabricName": target.path[0],
        "recoveryNetworkId": target.resource.id,
        "fabricSpecificDetails": {"instanceType": "VmmToVmm"},
    },
)
STORAGE: Final = _Kind(
    "storage",
    "storage classification",
    list_classifications,
    find_classification,
    lambda connection: connection.recovery.replication_storage_classification_mappings,
    lambda properties: properties.target_storage_classification_id,
    lambda target: {"targetStorageClassificationId": target.resource.id},
)


def _noun(kind: _Kind) -> typer.Typer:
    """Return the commands of one kind."""
    commands = typer.Typer(help=f"The {kind.word}s of both sites.", no_args_is_help=True)
    argument = f"The {kind.word}'s name, SERVER/NAME or id."
    commands.command("list", help=f"List the {kind.word}s of all servers.")(_list_of(kind))
    commands.command("mappings", help=f"List which {kind.word} stands for which.")(
        _mappings_of(kind)
    )
    commands.command("map", help=f"Have replicas use a {kind.word} in place of another.")(
        _map_of(kind, argument)
    )
    commands.command("unmap", help=f"End a mapping of {kind.word}s.")(_unmap_of(kind))
    return commands


def _list_of(kind: _Kind) -> Callable[..., None]:
    def list_all(
        *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
    ) -> None:
        async def work(connection: Connection) -> list[Row]:
            return [
                {"name": each.name, "server": each.place, "id": each.resource.name}
                for each in await kind.parts(connection, vault)
            ]

        show_list(connected(profile, work), COLUMNS, output)

    return list_all


def _mappings_of(kind: _Kind) -> Callable[..., None]:
    def mappings(
        *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
    ) -> None:
        async def work(connection: Connection) -> list[Row]:
            return [row for _, row in await kind.mappings(connection, vault)]

        show_list(connected(profile, work), MAPPING_COLUMNS, output)

    return mappings


def _map_of(kind: _Kind, argument: str) -> Callable[..., None]:
    @with_job_options
    def map_to(
        *,
        primary: Annotated[str, typer.Argument(help=argument)],
        recovery: Annotated[str, typer.Argument(help=argument)],
        name: Annotated[
            str | None, typer.Option("--name", help="The mapping's; by default of both names.")
        ] = None,
        given: JobOptions,
    ) -> None:
        async def work(connection: Connection) -> None:
            source = await kind.part(connection, given.vault, primary)
            target = await kind.part(connection, given.vault, recovery)
            called = name or f"{source.name}-{target.name}".replace(" ", "-")
            content = {"properties": kind.body(target)}
            path = (*connection.scope(given.vault), *source.path, called)
            begin = partial(kind.group(connection).begin_create, *path, content)
            what = f"map {source.full_name} to {target.full_name}"
            await carry_out(connection, given.vault, what, begin, given.wait_seconds)

        connected(given.profile, work)

    return map_to


def _unmap_of(kind: _Kind) -> Callable[..., None]:
    @asking_with_job_options
    def unmap(
        *,
        mapping: Annotated[str, typer.Argument(help="The mapping's name, or its id.")],
        given: JobOptions,
    ) -> None:
        async def work(connection: Connection) -> None:
            known = [named for named, _ in await kind.mappings(connection, given.vault)]
            found = choose(f"{kind.noun} mapping", mapping, known, f"{kind.noun} mappings")
            given.confirm(f"End the mapping {found.name}?")
            path = (*connection.scope(given.vault), *found.path)
            begin = partial(kind.group(connection).begin_delete, *path)
            what = f"end mapping {found.name}"
            await carry_out(connection, given.vault, what, begin, given.wait_seconds)

        connected(given.profile, work)

    return unmap


network_commands = _noun(NETWORKS)
storage_commands = _noun(STORAGE)
