"""How servers leave a hub without network: whose connections were ended is remembered."""

from dataclasses import dataclass, field

from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.fabrics import FabricService
from service_hub.services.injection_tasks import InjectionTasks
from service_hub.services.mapping_tasks import MappingTasks
from service_hub.services.pair_tasks import PairTasks
from service_hub.services.prerequisites import PrerequisitesService
from service_hub.services.servers import Departures, ServerTasks
from tests.support.played_sites import PlayedSites


@dataclass
class KickedConnections:
    """Remembers whose connections were ended."""

    kicked: list[str] = field(default_factory=list)

    def kick(self, provider_id: str) -> None:
        """Note it."""
        self.kicked.append(provider_id)


@dataclass(frozen=True)
class LeavingServers:
    """The parts, as the hub's composition makes them."""

    connections: KickedConnections
    departures: Departures
    checker: ServerTasks
    sites: PlayedSites


def leaving_servers(
    reader: Reader, committer: Committer, clock: Clock, fabrics: FabricService
) -> LeavingServers:
    """Make the parts; the checks of all other jobs stand behind their checker."""
    connections, sites = KickedConnections(), PlayedSites()
    departures = Departures(
        reader=reader, committer=committer, clock=clock, connections=connections
    )
    checker = ServerTasks(
        reader=reader,
        clock=clock,
        fabrics=fabrics,
        departures=departures,
        otherwise=InjectionTasks(
            clock=clock,
            laboratory=sites,
            otherwise=PairTasks(
                reader=reader,
                committer=committer,
                clock=clock,
                otherwise=MappingTasks(
                    reader=reader,
                    committer=committer,
                    clock=clock,
                    fabrics=fabrics,
                    otherwise=PrerequisitesService(reader=reader, clock=clock, fabrics=fabrics),
                ),
            ),
        ),
    )
    return LeavingServers(connections, departures, checker, sites)
