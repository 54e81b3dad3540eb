"""Two simulated sites on loopback for tests: real journals, disks, TLS and ports.

The guest of most tests is a small one of this file (it locks the images and writes through its
host, as the real one does), so that a test decides what is written and when.
"""

import asyncio
import fcntl
import itertools
import json
import os
import random
import socket
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from blake3 import blake3

from certs.chain import TrustChain
from certs.identity import check_request, new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context
from service_shell.clock import SystemClock
from service_shell.secret_files import write_secret
from vmm_simulator.config import SimulatorSettings
from vmm_simulator.guest.interface import GuestHandle, GuestSpec, GuestState, GuestStorage
from vmm_simulator.guest.locks import images_locked
from vmm_simulator.site import GuestPrograms, Site, open_site
from wire_contract.vocabulary import CLOUD_VERBS, Verb

CLOUD = {"tokyo": "cloud-tokyo", "osaka": "cloud-osaka"}
MACHINE = "vm-1"
REPLICA = "replica-1"
DISK_BYTES = (24 * 65_536, 16 * 65_536)
TOKEN = "a-token-of-the-test"  # noqa: S105 -- of the test
PORT = 8084
INTERVAL = 0.2
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


class SmallGuest(GuestHandle):
    """A guest inside the test: it locks its images and writes through its host."""

    def __init__(self, spec: GuestSpec, storage: GuestStorage) -> None:
        self.spec = spec
        self.storage = storage
        self.refuses_to_stop = False
        self._images = [os.open(path, os.O_RDONLY) for path in spec.disks]
        self._running = True
        for image in self._images:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._running

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        return None if self._running else 0

    async def write(self, disk: int, offset: int, data: bytes, record: int) -> None:
        """Write and flush, as a guest with one record after the other."""
        self.storage.write(disk, offset, data, record)
        await self.storage.flush()

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Answer with a hash over the images."""
        del seconds
        if not self._running:
            raise TimeoutError("it has ended")
        proof = blake3(nonce.encode() + self.spec.disks[0].read_bytes()).hexdigest()
        return GuestState(
            pid=self.pid,
            nonce=nonce,
            proof=proof,
            verified=True,
            file_system_uuid=None,
            last_record=0,
            epoch=self.spec.epoch,
        )

    async def stop(self, seconds: float) -> bool:
        """End, unless told otherwise."""
        del seconds
        if self.refuses_to_stop:
            return False
        self._end()
        return True

    async def kill(self) -> None:
        """End."""
        self._end()

    async def wait(self) -> int:
        """Return at once; nothing here ends by itself."""
        return 0

    def _end(self) -> None:
        self._running = False
        while self._images:
            os.close(self._images.pop())


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
    """The files of two sites; `running` opens one of them, as often as a test likes."""

    folder: Path
    prefix: str = field(default_factory=free_network)
    machine: Mapping[str, Any] = field(default_factory=dict)

    def fqdns(self, site: str) -> list[str]:
        """Return the hosts of a site."""
        return [f"host{number}.{site}.example" for number in (1, 2)]

    def write(self) -> None:
        """Write what both sites need."""
        lines = [
            f"{self.prefix}.{10 * row + column} {fqdn}\n"
            for row, site in enumerate(CLOUD, start=1)
            for column, fqdn in enumerate(self.fqdns(site), start=1)
        ]
        (self.folder / "hosts").write_text("".join(lines))
        chain, key = _server_certificate()
        (self.folder / "server.pem").write_text(chain)
        write_secret(self.folder / "server-key.pem", key)
        write_secret(self.folder / "token", TOKEN.encode())
        generator = random.Random(7)  # noqa: S311 -- a test's bytes, the same each time
        for path, size in zip(self.images, DISK_BYTES, strict=True):
            with path.open("wb") as image:
                image.truncate(size)
                image.write(generator.randbytes(size // 2))

    @property
    def images(self) -> list[Path]:
        """The disks of the machine at tokyo."""
        return [self.folder / f"disk-{index}.img" for index in range(len(DISK_BYTES))]

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
                }
                for fqdn in self.fqdns(site)
            ],
            "logical_networks": [{"id": "logical", "name": "logical", "clouds": [cloud]}],
            "networks": [{"id": "network", "name": "network", "logical_network": "logical"}],
            "machines": [self._machine()] if site == "tokyo" else [],
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
            site = await stack.enter_async_context(open_site(settings, SystemClock(), chosen))
            session = await stack.enter_async_context(client_session())
            ports = (site.vmm_port, site.management_port)
            yield RunningSite(name, *ports, session, inside=site, guests=guests)

    @asynccontextmanager
    async def process(self, name: str, **changes: Any) -> AsyncIterator["SiteProcess"]:
        """Have the program itself play one site; whatever happens, it is gone afterwards."""
        file = self.folder / f"{name}.yaml"
        ready = self.folder / f"{name}.ready"
        log = {"file": str(self.folder / f"{name}.log"), "level": "debug"}
        extras = {"ready_file": str(ready), "log": log}
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

    async def start(self) -> RunningSite:
        """Start it and return when it says that it is ready."""
        self.ready.unlink(missing_ok=True)
        program = Path(sys.executable).with_name("vmm-simulator")
        self.running = await asyncio.create_subprocess_exec(
            program, "run", "--config", self.file, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.ready.exists():
                assert self.running.returncode is None, await self.complaint()
                await asyncio.sleep(0.02)
        facts = json.loads(self.ready.read_text())
        ports = (facts["vmm_port"], facts["management_port"])
        return RunningSite(self.name, *ports, self.session)

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


async def certificates_for(site: RunningSite) -> list[dict[str, str]]:
    """Have the certificate requests of a site's hosts issued."""
    path = f"/vmm/v1/clouds/{CLOUD[site.name]}/host-certificate-requests"
    issued = []
    for request in (await site.get(path))["requests"]:
        key = check_request(request["csr_pem"].encode()).public_key()
        chain = trust().issue(
            Profile.HYPERV_HOST,
            key,  # type: ignore[arg-type]
            request["host"],
            datetime.now(UTC),
            dns_names=[request["host"]],
        )
        issued.append(
            {
                "host": request["host"],
                "chain_pem": chain.chain_pem,
                "root_pem": trust().root_pem,
            }
        )
    return issued


async def pair(estate: Estate, *sites: RunningSite) -> None:
    """Configure, prepare and pair the clouds of both sites."""
    names = list(CLOUD)
    for site in sites:
        other = names[1 - names.index(site.name)]
        cloud = CLOUD[site.name]
        issued = await certificates_for(site)
        await site.done(Verb.CONFIGURE_HOSTS, cloud, {"certificates": issued})
        partners = {"authentication": "certificate", "allowed_primaries": estate.fqdns(other)}
        await site.done(Verb.PREPARE_CLOUD, cloud, {"replica_port": PORT, **partners})
        role = "Primary" if site.name == "tokyo" else "Recovery"
        await site.done(Verb.PAIR_CLOUD, cloud, {"role": role, "partner_cloud_id": CLOUD[other]})


POLICY = {
    "interval_seconds": 30,
    "recovery_points": 0,
    "application_consistent_hours": 0,
    "compression": False,
}


async def place(estate: Estate, osaka: RunningSite, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Place the replica."""
    disks = [
        {key: disk[key] for key in ("disk_id", "name", "kind", "size_bytes")}
        for disk in machine["disks"]
    ]
    arguments = {
        "cloud_id": CLOUD["osaka"],
        "hyperv_id": MACHINE,
        "name": machine["name"],
        "generation": machine["generation"],
        "disks": disks,
        "primary_host": estate.fqdns("tokyo")[0],
        "item": MACHINE,
    }
    return await osaka.done(Verb.PLACE_REPLICA, REPLICA, arguments)


async def enable(estate: Estate, tokyo: RunningSite, osaka: RunningSite) -> None:
    """Pair the clouds and enable replication; the copy is not begun."""
    await pair(estate, tokyo, osaka)
    placed = await place(estate, osaka, await tokyo.machine(MACHINE))
    arguments = {
        **placed,
        **POLICY,
        "relationship_id": "relationship-1",
        "replica_machine_id": REPLICA,
        "item": MACHINE,
    }
    await tokyo.done(Verb.ENABLE_REPLICATION, MACHINE, arguments)


async def protect(estate: Estate, tokyo: RunningSite, osaka: RunningSite) -> None:
    """Bring the machine under protection, up to state 3 on both ends."""
    await enable(estate, tokyo, osaka)
    await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
    await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA)
    await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
    for site, machine, role in ((tokyo, MACHINE, "Primary"), (osaka, REPLICA, "Recovery")):
        item = {"item": MACHINE, "role": role, "active": site is tokyo}
        await site.done(Verb.UPDATE_PROTECTION, machine, item)


async def fail_over_planned(
    tokyo: RunningSite, osaka: RunningSite, *, epoch: int = 2
) -> dict[str, Any]:
    """Fail over as planned, up to state 5; the result of fail_over."""
    await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30}, epoch=epoch - 1)
    prepared = await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE, epoch=epoch - 1)
    arguments = {"planned": True, "expected_cut": prepared["last_cut"], "recovery_point": None}
    return await osaka.done(Verb.FAIL_OVER, REPLICA, arguments, epoch=epoch)


async def reverse(
    source: tuple[RunningSite, str],
    target: tuple[RunningSite, str],
    *,
    primary_host: str,
    resynchronize: bool,
    epoch: int,
    relationship_id: str = "relationship-2",
) -> None:
    """Reverse the replication: `source` becomes the primary, `target` its replica."""
    (new_primary, primary_id), (new_replica, replica_id) = source, target
    prepared = await new_replica.done(
        Verb.PREPARE_REVERSE,
        replica_id,
        {
            "relationship_id": relationship_id,
            "primary_host": primary_host,
            "primary_machine_id": primary_id,
            "resynchronize": resynchronize,
            "interval_seconds": 30,
        },
        epoch=epoch,
    )
    await new_primary.done(
        Verb.REVERSE_REPLICATE,
        primary_id,
        {
            **prepared,
            **POLICY,
            "relationship_id": relationship_id,
            "replica_machine_id": replica_id,
            "resynchronize": resynchronize,
        },
        epoch=epoch,
    )


def digest(disks: Sequence[bytes]) -> list[str]:
    """Return a short name for the bytes of disks."""
    return [blake3(disk).hexdigest()[:16] for disk in disks]
