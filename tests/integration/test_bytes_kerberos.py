"""Replication by Kerberos tickets of a real centre: who is let in, and who is believed."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kerberos_centre import REALM, KerberosCentre
from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    on_uvloop,
    pair,
)
from vmm_simulator.hyperv import kerberos
from vmm_simulator.hyperv.backend import Authentication, CutKind, PeerAddress
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.kerberos import TicketError, Tickets, require_extra
from vmm_simulator.hyperv.peer_proof import TicketProof
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code, RefusedError

PATH = "/replica/v1/relationships/r-1"


def tickets(realm: KerberosCentre, fqdn: str, keytab: Path | None = None) -> Tickets:
    """Return what a host proves itself with."""
    return Tickets(fqdn, REALM, keytab or realm.host_keytab(fqdn), uuid.uuid4().hex)


@asynccontextmanager
async def port(both: Pair, proof: Tickets) -> AsyncIterator[PeerAddress]:
    """Open a port of the replica's host that takes tickets."""
    answers = both.osaka.answers
    listener = ReplicaListener(
        both.osaka.backend,
        control=answers.control,
        authorize_transfer=answers.authorize_transfer,
        applied=answers.note_applied,
        failed=answers.note_failed,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    await listener.start(listening, TicketProof(proof))
    try:
        yield PeerAddress(
            REPLICA_FQDN,
            "127.0.0.1",
            listening.getsockname()[1],
            authentication=Authentication.KERBEROS,
        )
    finally:
        await listener.aclose()


def client(proof: Tickets | None) -> HostClient:
    """Return a host that has tickets and no certificate."""

    def none() -> None:
        raise AssertionError("no certificate is asked for")

    return HostClient(none, tickets=proof)  # type: ignore[arg-type]


@on_uvloop
async def replicate_by_tickets(realm: KerberosCentre, folder: Path) -> None:
    """Copy a machine and its changes over a port that knows tickets only."""
    async with pair(folder) as both, port(both, tickets(realm, REPLICA_FQDN)) as address:
        both.tokyo._client = client(tickets(realm, PRIMARY_FQDN))
        both.osaka.address = address
        both.write(0, 3 * BLOCK, b"a" * BLOCK)
        await both.replicate(CutKind.FULL, 1)
        both.write(1, 0, b"b" * 9000)
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()
        both.write(1, 0, bytes(9000))
        both.osaka.address = replace(address, compression=True)
        await both.replicate(CutKind.DIFFERENCES, 3)
        assert both.equal()
        assert {machine for machine, _ in both.osaka.answers.applied} == {MACHINE}


def test_a_machine_is_replicated_by_tickets(kerberos_realm: KerberosCentre, tmp_path: Path) -> None:
    replicate_by_tickets(kerberos_realm, tmp_path)


@on_uvloop
async def refuse_strangers(realm: KerberosCentre, folder: Path) -> None:
    """Knock with everything that is no host of the realm."""
    user = realm.keytab("user", "user")
    other = realm.keytab("http/web.tokyo.example", "web")
    async with pair(folder) as both, port(both, tickets(realm, REPLICA_FQDN)) as address:
        good = client(tickets(realm, PRIMARY_FQDN))
        assert (await good.request(address, "GET", PATH))[0] == 200
        assert both.osaka.answers.requests[-1][0] == PRIMARY_FQDN

        # A host without a principal gets no ticket, nor is there one for a host without.
        with pytest.raises(TicketError, match="no Kerberos ticket"):
            await client(tickets(realm, "host9.tokyo.example", user)).request(address, "GET", PATH)
        nobody = replace(address, fqdn="host9.osaka.example")
        with pytest.raises(TicketError, match=r"host/host9\.osaka\.example@.*its SPN"):
            await good.request(nobody, "GET", PATH)

        # Principals of the realm that are no hosts.
        class Impostor(Tickets):
            def _principal(self, fqdn: str) -> str:
                return {"user": f"user@{REALM}", "web": f"http/web.tokyo.example@{REALM}"}.get(
                    fqdn, super()._principal(fqdn)
                )

        for name, keytab in (("user", user), ("web", other)):
            with pytest.raises(ConnectionError):
                await client(Impostor(name, REALM, keytab, uuid.uuid4().hex)).request(
                    address, "GET", PATH
                )
        assert len(both.osaka.answers.requests) == 1


def test_strangers_of_the_realm_are_refused(kerberos_realm: KerberosCentre, tmp_path: Path) -> None:
    refuse_strangers(kerberos_realm, tmp_path)


@on_uvloop
async def believe_no_other_host(realm: KerberosCentre, folder: Path) -> None:
    """Ask a host that cannot read the ticket, or says that it is another."""
    stranger = realm.host_keytab("host8.osaka.example")
    async with pair(folder) as both:
        async with port(both, tickets(realm, "host8.osaka.example", stranger)) as address:
            asking = client(tickets(realm, PRIMARY_FQDN))
            with pytest.raises(TicketError, match="is not taken"):
                await asking.request(address, "GET", PATH)
        assert not both.osaka.answers.requests

        async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            token = head.partition(b"uthorization: ")[2].partition(b"\r\n")[0]
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nWWW-Authenticate: "
            writer.write(answer + token + b"\r\n\r\n{}")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(parrot, "127.0.0.1", 0)
        async with server:
            false = PeerAddress(
                REPLICA_FQDN,
                "127.0.0.1",
                server.sockets[0].getsockname()[1],
                authentication=Authentication.KERBEROS,
            )
            with pytest.raises(TicketError, match="is not host/"):
                await client(tickets(realm, PRIMARY_FQDN)).request(false, "GET", PATH)


def test_only_the_host_that_was_meant_is_believed(
    kerberos_realm: KerberosCentre, tmp_path: Path
) -> None:
    believe_no_other_host(kerberos_realm, tmp_path)


@on_uvloop
async def throw_at_the_port(realm: KerberosCentre, folder: Path) -> None:
    """Send what is no ticket."""
    async with pair(folder) as both, port(both, tickets(realm, REPLICA_FQDN)) as address:
        for line in (
            "",
            "Authorization: Negotiate\r\n",
            "Authorization: Negotiate AAAA\r\n",
            "Authorization: Negotiate ====\r\n",
            "Authorization: Negotiate " + "QUFB" * 3000 + "\r\n",
            "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n",
            "Authorization: Bearer abc\r\n",
        ):
            reader, writer = await asyncio.open_connection(address.address, address.port)
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 "), line
            assert b"WWW-Authenticate: Negotiate\r\n" in head
            writer.close()
        assert not both.osaka.answers.requests


def test_what_is_no_ticket_is_answered_with_401(
    kerberos_realm: KerberosCentre, tmp_path: Path
) -> None:
    throw_at_the_port(kerberos_realm, tmp_path)


def test_without_the_extra_the_command_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kerberos, "gssapi", None)
    with pytest.raises(RefusedError, match="extra kerberos is not installed") as refused:
        require_extra()
    assert refused.value.code == Code.NOT_SUPPORTED
    assert "pip install 'site-recovery-hub[kerberos]'" in refused.value.action
    with pytest.raises(RefusedError):
        TicketProof(Tickets(REPLICA_FQDN, REALM, tmp_path / "none", "cache"))


def test_a_host_without_its_keys_is_told_who_makes_them(
    kerberos_realm: KerberosCentre, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="has no keytab") as refused:
        tickets(kerberos_realm, REPLICA_FQDN, tmp_path / "none").require_usable()
    assert f"host/{REPLICA_FQDN}@{REALM}" in refused.value.action


@on_uvloop
async def ask_without_a_centre(realm: KerberosCentre) -> None:
    """Ask for a ticket while nobody gives any."""
    proof = tickets(realm, PRIMARY_FQDN)
    realm.stop()
    try:
        with pytest.raises(TicketError, match="the realm's centre is reached"):
            await proof.ask(REPLICA_FQDN)
    finally:
        realm.start()
    # It is there again, and so are tickets.
    assert (await proof.ask(REPLICA_FQDN)).headers


def test_a_centre_that_is_away_is_named_and_comes_back(kerberos_realm: KerberosCentre) -> None:
    ask_without_a_centre(kerberos_realm)
