"""Hosts at run time: made from their records, at the start and whenever one is added."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog

from service_shell.clock import Clock
from service_shell.errors import ProgramError
from service_shell.failpoints import NONE, FaultPoints
from vmm_simulator.config import KerberosSettings
from vmm_simulator.hyperv.addresses import read_hosts
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.host_credentials import HostCredentials
from vmm_simulator.hyperv.host_guests import GuestSurroundings, HostGuests
from vmm_simulator.hyperv.kerberos import Tickets, use_configuration
from vmm_simulator.hyperv.pace import Pace
from vmm_simulator.hyperv.receiver import ReplicaReceiver
from vmm_simulator.hyperv.replication_link import ReplicationLink
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import HostRecord

REPLICATION_FOLDER: Final = "replication"
"""Below a host's own folder: what is kept of each machine, in a folder of the machine's id."""

log = structlog.get_logger(__name__)


class EstateAddresses(Mapping[str, str]):
    """The hosts file by name (lower case), read again when a name is asked for that it had not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = dict(read_hosts(path))
        self._read_at = _changed_at(path)

    def __getitem__(self, name: str) -> str:
        """Return a host's address, or KeyError."""
        if name not in self._known and _changed_at(self._path) != self._read_at:
            self._read_again()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names that are known now."""
        return iter(self._known)

    def __len__(self) -> int:
        """Return how many names are known now."""
        return len(self._known)

    def _read_again(self) -> None:
        """Read a file that has changed; one that is damaged meanwhile leaves what was known."""
        self._read_at = _changed_at(self._path)
        try:
            self._known = dict(read_hosts(self._path))
        except ProgramError as error:
            log.warning("hosts_file_not_read", cause=str(error))


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class HostMaker:
    """Makes the run-time part of hosts; all of them share one hosts file."""

    def __init__(
        self,
        data_directory: Path,
        hosts_file: Path,
        surroundings: GuestSurroundings,
        store: InventoryStore,
        clock: Clock,
        *,
        kerberos: KerberosSettings | None = None,
        faults: FaultPoints = NONE,
    ) -> None:
        if kerberos is not None:
            use_configuration(kerberos.configuration_file)
        self._kerberos = kerberos
        self._faults = faults
        self._data_directory = data_directory
        self._hosts_file = hosts_file
        self._surroundings = surroundings
        self._store = store
        self._clock = clock
        self._addresses = EstateAddresses(hosts_file)
        self.link = ReplicationLink()

    def make(self, record: HostRecord) -> Host:
        """Return a host, with its port closed; ProgramError where it has no address."""
        if record.fqdn.lower() not in self._addresses:
            raise ProgramError(
                f"{self._hosts_file} has no address for host {record.fqdn}; add a line for it"
            )
        folder = self._data_directory / "hosts" / record.fqdn
        credentials = HostCredentials(record.fqdn, folder / "certificate")
        tickets = self._tickets(record)
        client = HostClient(
            lambda: credentials.contexts()[1],
            tickets=tickets,
            proxy=lambda: self._store.host(record.fqdn).proxy,
            pace=Pace(lambda: self._store.host(record.fqdn).bandwidth, self._clock.now),
            link=self.link,
        )
        backend = EmbeddedBackend(folder / REPLICATION_FOLDER, client)
        return Host(
            record.fqdn,
            addresses=self._addresses,
            credentials=credentials,
            client=client,
            backend=backend,
            guests=HostGuests(backend, self._surroundings),
            receiver=ReplicaReceiver(record.fqdn, self._store, backend, self._clock),
            tickets=tickets,
            faults=self._faults,
        )

    def _tickets(self, record: HostRecord) -> Tickets | None:
        if self._kerberos is None or record.keytab is None:
            return None
        realm = self._kerberos.realm
        return Tickets(record.fqdn, realm, Path(record.keytab), self._clock.new_id())

    def make_all(self) -> dict[str, Host]:
        """Return all hosts of the inventory by FQDN."""
        return {record.fqdn: self.make(record) for record in self._store.hosts.values()}

    def folder_of(self, fqdn: str, machine_id: str) -> Path:
        """Return where a host keeps what it knows of a machine."""
        return self._data_directory / "hosts" / fqdn / REPLICATION_FOLDER / machine_id
