"""Two simulated sites on loopback for tests: real journals, disks, TLS and ports.

Over 400 lines because every test that asks a simulator begins with this one estate.
"""

import asyncio
import itertools
import json
import os
import random
import socket
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context
from service_shell.clock import Clock, SystemClock
from service_shell.failpoints import VARIABLE
from service_shell.secret_files import write_secret
from tests.support.small_guest import SmallGuest
from vmm_simulator.config import SimulatorSettings
from vmm_simulator.guest.interface import GuestHandle, GuestSpec, GuestStorage
from vmm_simulator.guest.locks import images_locked
from vmm_simulator.site import GuestPrograms, Site, open_site
from wire_contract.vocabulary import CLOUD_VERBS, SERVER_VERBS, Verb

CLOUD = {"tokyo": "cloud-tokyo", "osaka": "cloud-osaka"}
MACHINE = "vm-1"
REPLICA = "replica-1"
DISK_BYTES = (24 * 65_536, 16 * 65_536)
TOKEN = "a-token-of-the-test"  # noqa: S105 -- of the test
PORT = 8084
INTERVAL = 0.2
FILE_SERVER = "files.example"
SHARE = rf"\\{FILE_SERVER}\seeds"
"""What both sites see for offline replication; its folder lies beside them."""

WAIT_SECONDS = 30.0
FAR = timedelta(hours=1)


@cache
def trust() -> TrustChain:
    """Return the hub's trust chain."""
    return TrustChain.create(datetime.now(UTC) - timedelta(minutes=5), "the estate")


@cache
def _server_certificate() -> tuple[str, bytes]:
    key = new_private_key()
    issued = trust().issue(
        Profile.HUB_SERVER,
        key.public_key(),
        "vmm",
        datetime.now(UTC),
        dns_names=["localhost"],
        ip_addresses=["127.0.0.1"],
    )
    return issued.chain_pem, private_key_pem(key)


def free_network() -> str:
    """Return the first three numbers of a network in 127.0.0.0/8 that nobody listens on."""
    for _ in range(100):
        prefix = f"127.{random.randint(64, 254)}.{random.randint(1, 254)}"  # noqa: S311 -- no secret
        try:
            with socket.socket() as probe:
                probe.bind((f"{prefix}.1", PORT))
        except OSError:
            continue
        return prefix
    raise RuntimeError("no free network on loopback")


@dataclass
class RunningSite:
    """A site that runs, as its provider and its laboratory see it."""

    name: str
    vmm_port: int
    management_port: int
    session: aiohttp.ClientSession
    inside: Site | None = None
    guests: dict[str, SmallGuest] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def site(self) -> Site:
        """The inside of a site that runs in the test's own process."""
        assert self.inside is not None
        return self.inside

    def new_id(self) -> str:
        """Return a new command id of a job of its own."""
        return f"{self.name}-{self.run}-{next(self.numbers)}/task/1"

    async def verb(
        self,
        verb: Verb | str,
        target: str = "",
        arguments: Mapping[str, Any] | None = None,
        **command: Any,
    ) -> tuple[int, dict[str, Any]]:
        """Do a verb over HTTPS; status and body."""
        kind = "clouds" if verb in CLOUD_VERBS else "machines"
        kind = "servers" if verb in SERVER_VERBS else kind
        deadline = command.pop("deadline", datetime.now(UTC) + FAR)
        given = {"id": self.new_id(), "fence": 1, "epoch": 1, **command}
        body = {
            "command": {**given, "deadline": deadline.isoformat()},
            "arguments": dict(arguments or {}),
        }
        url = f"https://127.0.0.1:{self.vmm_port}/vmm/v1/{kind}/{target}/{verb}"
        async with self.session.post(url, json=body) as answer:
            return answer.status, await answer.json()

    async def done(
        self,
        verb: Verb,
        target: str = "",
        arguments: Mapping[str, Any] | None = None,
        **command: Any,
    ) -> dict[str, Any]:
        """Do a verb that has to succeed; its result."""
        status, answer = await self.verb(verb, target, arguments, **command)
        assert status == 200, (verb, answer)
        return dict(answer["result"])

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read from the VMM interface."""
        url = f"https://127.0.0.1:{self.vmm_port}{path}"
        async with self.session.get(url, params=query) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def machine(self, machine_id: str, **query: str) -> dict[str, Any]:
        """Return a machine's view."""
        return await self.get(f"/vmm/v1/machines/{machine_id}", **query)

    async def manage(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the management port."""
        url = f"https://127.0.0.1:{self.management_port}{path}"
        async with self.session.request(method, url, json=body) as answer:
            return answer.status, await answer.json()

    async def faults(self, *faults: Mapping[str, Any]) -> None:
        """Set these faults."""
        status, answer = await self.manage("PUT", "/faults", {"faults": list(faults)})
        assert status == 200, answer

    async def until(
        self, machine_id: str, holds: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Return the machine's view once a condition holds."""
        view: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not holds(view := await self.machine(machine_id)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"this did not become true of {view}") from None
        return view

    def disks(self, machine_id: str) -> list[bytes]:
        """Return the bytes of a machine's disks."""
        record = self.site.fabric.store.machine(machine_id)
        return [Path(disk.path).read_bytes() for disk in record.disks]


@dataclass
class Estate:
    """The files of two sites; `running` opens one of them, as often as a test likes.

    `offline`: both sites know a share for offline replication.
    """

    folder: Path
    prefix: str = field(default_factory=free_network)
    machine: Mapping[str, Any] = field(default_factory=dict)
    disk_bytes: tuple[int, ...] = DISK_BYTES
    further: tuple[Mapping[str, Any], ...] = ()
    """More machines at tokyo, as the configuration has them."""
    clock: Clock = field(default_factory=SystemClock)
    offline: bool = False

    def fqdns(self, site: str) -> list[str]:
        """Return the hosts of a site."""
        return [f"host{number}.{site}.example" for number in (1, 2)]

    def broker(self, site: str) -> str:
        """Return the replica broker of a site whose hosts are nodes of `cluster.SITE.example`."""
        return f"cluster-broker.{site}.example"

    def write(self) -> None:
        """Write what both sites need."""
        lines = [
            f"{self.prefix}.{10 * row + column} {fqdn}\n"
            for row, site in enumerate(CLOUD, start=1)
            for column, fqdn in enumerate(self.fqdns(site), start=1)
        ]
        lines += [
            f"{self.prefix}.{10 * row + 9} {self.broker(site)}\n"
            for row, site in enumerate(CLOUD, start=1)
        ]
        (self.folder / "share").mkdir()
        (self.folder / "hosts").write_text("".join(lines))
        chain, key = _server_certificate()
        (self.folder / "server.pem").write_text(chain)
        write_secret(self.folder / "server-key.pem", key)
        write_secret(self.folder / "token", TOKEN.encode())
        generator = random.Random(7)  # noqa: S311 -- a test's bytes, the same each time
        for path, size in zip(self.images, self.disk_bytes, strict=True):
            with path.open("wb") as image:
                image.truncate(size)
                image.write(generator.randbytes(size // 2))

    @property
    def images(self) -> list[Path]:
        """The disks of the machine at tokyo."""
        return [self.folder / f"disk-{index}.img" for index in range(len(self.disk_bytes))]

    def settings(self, site: str, **changes: Any) -> SimulatorSettings:
        """Return a site's configuration."""
        return SimulatorSettings.model_validate(self.configuration(site, **changes))

    def configuration(self, site: str, **changes: Any) -> dict[str, Any]:
        """Return a site's configuration as it stands in a file."""
        listen = {
            "host": "127.0.0.1",
            "port": 0,
            "certificate_file": str(self.folder / "server.pem"),
            "key_file": str(self.folder / "server-key.pem"),
            "token_file": str(self.folder / "token"),
        }
        cloud = CLOUD[site]
        inventory = {
            "clouds": [{"id": cloud, "name": cloud, "host_groups": ["group"]}],
            "host_groups": [{"id": "group", "name": "group"}],
            "hosts": [
                {
                    "fqdn": fqdn,
                    "host_group": "group",
                    "disks_directory": str(self.folder / site / fqdn),
                    "delegations": [f"cifs/{FILE_SERVER}"] if self.offline else [],
                }
                for fqdn in self.fqdns(site)
            ],
            "file_shares": [self._share()] if self.offline else [],
            "logical_networks": [
                {"id": "logical", "name": "logical", "clouds": [cloud]},
                {
                    "id": "logical-test",
                    "name": "logical-test",
                    "clouds": [cloud],
                    "network_virtualization": True,
                },
            ],
            "networks": [{"id": "network", "name": "network", "logical_network": "logical"}],
            "machines": [self._machine(), *self.further] if site == "tokyo" else [],
        }
        return {
            "site": site,
            "data_directory": str(self.folder / site / "vmm"),
            "vmm": {"id": f"vmm-{site}", "fqdn": f"vmm.{site}.example"},
            "vmm_interface": listen,
            "management": listen,
            "hosts_file": str(self.folder / "hosts"),
            "replication": {"interval_seconds": INTERVAL},
            "inventory": inventory,
            **changes,
        }

    def _share(self) -> dict[str, Any]:
        # Absolute, and yet of the process's own working directory, which a copy of it has too.
        here = self.folder if self.folder.is_absolute() else "/proc/self/cwd" / self.folder
        return {
            "unc": SHARE,
            "folder": str(here / "share"),
            "server": FILE_SERVER,
            "full_control": ["vmm-service"],
            "share_full_control": ["vmm-service"],
            "server_groups": {"Administrators": ["vmm-service"]},
        }

    def _machine(self) -> dict[str, Any]:
        return {
            "id": MACHINE,
            "name": "SQL-01",
            "host": self.fqdns("tokyo")[0],
            "cloud": CLOUD["tokyo"],
            "disks": [
                {"id": f"disk-{index}", "name": f"disk-{index}", "path": str(path)}
                for index, path in enumerate(self.images)
            ],
            "nics": [{"id": "nic", "network": "network"}],
            **self.machine,
        }

    @asynccontextmanager
    async def running(
        self, name: str, *, programs: GuestPrograms | None = None, **changes: Any
    ) -> AsyncIterator[RunningSite]:
        """Run one site."""
        guests: dict[str, SmallGuest] = {}

        async def start(spec: GuestSpec, storage: GuestStorage) -> GuestHandle:
            guests[spec.machine_id] = SmallGuest(spec, storage)
            return guests[spec.machine_id]

        chosen = programs or GuestPrograms(start, images_locked)
        async with AsyncExitStack() as stack:
            settings = self.settings(name, **changes)
            site = await stack.enter_async_context(open_site(settings, self.clock, chosen))
            session = await stack.enter_async_context(client_session())
            ports = (site.vmm_port, site.management_port)
            yield RunningSite(name, *ports, session, inside=site, guests=guests)

    @asynccontextmanager
    async def process(self, name: str, **changes: Any) -> AsyncIterator["SiteProcess"]:
        """Have the program itself play one site; whatever happens, it is gone afterwards."""
        file = self.folder / f"{name}.yaml"
        ready = self.folder / f"{name}.ready"
        extras = {"ready_file": str(ready), "log": {"file": f"{file}.log", "level": "debug"}}
        file.write_text(json.dumps(self.configuration(name, **extras, **changes)))
        async with client_session() as session:
            process = SiteProcess(name, file, ready, session)
            try:
                yield process
            finally:
                await process.kill()

    @asynccontextmanager
    async def both(self, **changes: Any) -> AsyncIterator[tuple[RunningSite, RunningSite]]:
        """Run both sites."""
        async with self.running("tokyo", **changes) as tokyo, self.running("osaka") as osaka:
            yield tokyo, osaka


@dataclass
class SiteProcess:
    """The simulator as a program of its own, which a test may kill."""

    name: str
    file: Path
    ready: Path
    session: aiohttp.ClientSession
    running: asyncio.subprocess.Process | None = None

    async def start(self, failpoint: str = "") -> RunningSite:
        """Start it and return when it says that it is ready."""
        self.ready.unlink(missing_ok=True)
        program = Path(sys.executable).with_name("vmm-simulator")
        self.running = await asyncio.create_subprocess_exec(
            *(program, "run", "--config", self.file),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, VARIABLE: failpoint},
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.ready.exists():
                assert self.running.returncode is None, await self.complaint()
                await asyncio.sleep(0.02)
        facts = json.loads(self.ready.read_text())
        return RunningSite(self.name, facts["vmm_port"], facts["management_port"], self.session)

    async def kill(self) -> None:
        """Kill it with -9."""
        if self.running is not None and self.running.returncode is None:
            self.running.kill()
            await self.running.wait()

    async def complaint(self) -> str:
        """Return what it printed on standard error; it has to have ended."""
        assert self.running is not None
        _, errors = await asyncio.wait_for(self.running.communicate(), WAIT_SECONDS)
        return errors.decode()


def client_session() -> aiohttp.ClientSession:
    """Return a client that trusts the estate and has the token."""
    tls: ssl.SSLContext = client_context(trust().root_pem)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS),
    )


def make_estate(folder: Path, **machine: Any) -> Estate:
    """Write an estate's files."""
    estate = Estate(folder, machine=machine)
    estate.write()
    return estate
