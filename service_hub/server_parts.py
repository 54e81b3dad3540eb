"""Part of the composition root: what stands behind registration keys and registered servers."""

from dataclasses import dataclass

from certs.profiles import LIFETIMES, Profile
from service_hub.ports.channel import Connections
from service_hub.ports.running import Checker
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricUseCases
from service_hub.provider_api.registration_office import RegistrationOffice
from service_hub.services.authority import AuthorityService
from service_hub.services.registration_keys import RegistrationKeyService
from service_hub.services.servers import Departures, ServerTasks


class LateConnections:
    """The Connections of a hub whose listener opens after its use cases were made."""

    def __init__(self) -> None:
        self._opened: Connections | None = None

    def opened(self, connections: Connections) -> None:
        """Kick through these from now on."""
        self._opened = connections

    def kick(self, provider_id: str) -> None:
        """End all of one provider's connections; before the listener opened there are none."""
        if self._opened is not None:
            self._opened.kick(provider_id)


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What the engine and the use cases of servers share."""

    connections: LateConnections
    departures: Departures
    checker: ServerTasks
    keys: RegistrationKeyService
    authorities: AuthorityService


def server_parts(
    reader: Reader,
    committer: Committer,
    clock: Clock,
    fabrics: FabricUseCases,
    *,
    checker: Checker,
    office: RegistrationOffice,
) -> ServerParts:
    """Make the parts; `checker` is that of all other jobs."""
    connections = LateConnections()
    departures = Departures(
        reader=reader, committer=committer, clock=clock, connections=connections
    )
    tasks = ServerTasks(
        reader=reader, clock=clock, fabrics=fabrics, departures=departures, otherwise=checker
    )
    keys = RegistrationKeyService(
        reader=reader,
        committer=committer,
        clock=clock,
        issuer=office,
        key_lifetime=LIFETIMES[Profile.VAULT_REGISTRATION],
    )
    authorities = AuthorityService(reader=reader, committer=committer, clock=clock)
    return ServerParts(connections, departures, tasks, keys, authorities)
