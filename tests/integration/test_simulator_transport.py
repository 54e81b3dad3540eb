"""How a site's hosts are set up for replication: ports, proofs, entries, limits, proxies."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.kerberos_centre import REALM, KerberosCentre
from tests.support.simulator_estate import CLOUD, MACHINE, PORT, REPLICA, Estate, RunningSite
from tests.support.simulator_steps import (
    POLICY,
    certificates_for,
    enable,
    fail_over_planned,
    pair,
    place,
    protect,
)
from vmm_simulator.hyperv import kerberos
from wire_contract.vocabulary import KERBEROS_PORT, Verb

OTHER_CLOUD = "cloud-of-another-pair"
OTHER_PORT = 8444


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    """Two sites on files."""
    made = Estate(tmp_path)
    made.write()
    return made


def inventory(estate: Estate, site: str, **of_hosts: Any) -> dict[str, Any]:
    """Return a site's inventory with these settings of each host, and a second cloud."""
    found: dict[str, Any] = estate.configuration(site)["inventory"]
    for host in found["hosts"]:
        host.update(of_hosts)
    second = {"id": OTHER_CLOUD, "name": OTHER_CLOUD, "host_groups": ["group"]}
    found["clouds"].append(second)
    return {"inventory": found}


def answers(estate: Estate, fqdn: str, port: int) -> bool:
    """Whether something listens on a host's address."""
    lines = (estate.folder / "hosts").read_text().splitlines()
    address = next(line.split()[0] for line in lines if line.endswith(f" {fqdn}"))
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


async def prepare(site: RunningSite, cloud: str, port: int, **more: Any) -> tuple[int, Any]:
    """Prepare a cloud for partners that nobody knows."""
    arguments = {
        "replica_port": port,
        "authentication": "certificate",
        "allowed_primaries": ["host1.tokyo.example"],
        **more,
    }
    return await site.verb(Verb.PREPARE_CLOUD, cloud, arguments)


async def test_each_pairing_has_its_port_and_takes_it_away_again(estate: Estate) -> None:
    async with estate.running("osaka", **inventory(estate, "osaka")) as osaka:
        issued = await certificates_for(osaka)
        for cloud in (CLOUD["osaka"], OTHER_CLOUD):
            await osaka.done(Verb.CONFIGURE_HOSTS, cloud, {"certificates": issued})
        assert (await prepare(osaka, CLOUD["osaka"], PORT))[0] == 200
        assert (await prepare(osaka, OTHER_CLOUD, OTHER_PORT))[0] == 200
        for fqdn in estate.fqdns("osaka"):
            assert answers(estate, fqdn, PORT)
            assert answers(estate, fqdn, OTHER_PORT)
        hosts = (await osaka.get("/vmm/v1/inventory"))["hosts"]
        assert {host["replica_port"] for host in hosts} == {OTHER_PORT}

        # A port speaks TLS or it does not.
        status, problem = await prepare(
            osaka, OTHER_CLOUD, PORT, authentication="kerberos", allowed_primaries=[]
        )
        assert (status, problem["code"]) == (409, 32774)
        assert "8083 for Kerberos" in problem["recommended_action"]

        # The pairing moves to another port, and then ends.
        assert (await prepare(osaka, OTHER_CLOUD, OTHER_PORT + 1))[0] == 200
        assert not answers(estate, estate.fqdns("osaka")[0], OTHER_PORT)
        await osaka.done(Verb.UNPAIR_CLOUD, OTHER_CLOUD, {"partner_cloud_id": "anything"})
        assert not answers(estate, estate.fqdns("osaka")[0], OTHER_PORT + 1)
        assert answers(estate, estate.fqdns("osaka")[0], PORT)
    # What was set up is set up again after a start.
    async with estate.running("osaka", **inventory(estate, "osaka")) as osaka:
        assert answers(estate, estate.fqdns("osaka")[0], PORT)
        await osaka.done(Verb.UNPAIR_CLOUD, CLOUD["osaka"], {"partner_cloud_id": "anything"})
        assert not answers(estate, estate.fqdns("osaka")[0], PORT)


async def test_a_port_that_something_else_has_is_named_and_taken_once_it_is_free(
    estate: Estate,
) -> None:
    fqdn = estate.fqdns("osaka")[0]
    lines = (estate.folder / "hosts").read_text().splitlines()
    address = next(line.split()[0] for line in lines if line.endswith(f" {fqdn}"))
    async with estate.running("osaka") as osaka:
        issued = await certificates_for(osaka)
        await osaka.done(Verb.CONFIGURE_HOSTS, CLOUD["osaka"], {"certificates": issued})
        with socket.create_server((address, PORT)):
            status, problem = await prepare(osaka, CLOUD["osaka"], PORT)
            assert status == 503
            assert fqdn in problem["message"]
            assert "in use" in problem["message"]
        status, problem = await prepare(osaka, CLOUD["osaka"], PORT)
        assert status == 200, problem
        assert answers(estate, fqdn, PORT)


async def test_an_entry_authorises_and_says_where_replicas_are_stored(
    estate: Estate, tmp_path: Path
) -> None:
    entry = {
        "primary": "*.tokyo.example",
        "trust_group": "tokyo",
        "storage_location": str(tmp_path / "volume"),
    }
    changes = inventory(estate, "osaka", authorisations={"entries": [entry]})
    async with estate.running("tokyo") as tokyo, estate.running("osaka", **changes) as osaka:
        await pair(estate, tokyo, osaka)
        # What the pairing brought is taken away again: the entry alone lets the primary in.
        status, _ = await prepare(osaka, CLOUD["osaka"], PORT, allowed_primaries=[])
        assert status == 200
        await protect_paired(estate, tokyo, osaka)
        paths = [disk["path"] for disk in osaka_disks(osaka)]
        assert all(path.startswith(f"{tmp_path / 'volume'}/Hyper-V Replica/") for path in paths)
        assert tokyo.disks(MACHINE) == osaka.disks(REPLICA)


def osaka_disks(osaka: RunningSite) -> list[dict[str, Any]]:
    """Return the disks of the replica as the journal knows them."""
    record = osaka.site.fabric.store.machine(REPLICA)
    return [disk.model_dump() for disk in record.disks]


async def protect_paired(
    estate: Estate, tokyo: RunningSite, osaka: RunningSite, **policy: Any
) -> None:
    """Protect the machine of clouds that are paired already."""
    placed = await place(estate, osaka, await tokyo.machine(MACHINE))
    arguments = {
        **placed,
        **POLICY,
        **policy,
        "relationship_id": "relationship-1",
        "replica_machine_id": REPLICA,
        "item": MACHINE,
    }
    await tokyo.done(Verb.ENABLE_REPLICATION, MACHINE, arguments)
    await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
    await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA)
    await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)


async def test_without_an_entry_or_a_pairing_nobody_places_a_replica(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo, estate.running("osaka") as osaka:
        await pair(estate, tokyo, osaka)
        await prepare(osaka, CLOUD["osaka"], PORT, allowed_primaries=[])
        with pytest.raises(AssertionError, match="91007"):
            await place(estate, osaka, await tokyo.machine(MACHINE))


async def test_kerberos_without_the_extra_is_refused_with_what_to_run(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kerberos, "gssapi", None)
    async with estate.both() as (tokyo, osaka):
        status, problem = await prepare(
            osaka, CLOUD["osaka"], KERBEROS_PORT, authentication="kerberos"
        )
        assert (status, problem["code"]) == (409, 32770)
        assert "pip install 'site-recovery-hub[kerberos]'" in problem["recommended_action"]
        await pair(estate, tokyo, osaka)
        with pytest.raises(AssertionError, match="extra kerberos is not installed"):
            await protect_paired(estate, tokyo, osaka, authentication="kerberos")
        assert (await tokyo.machine(MACHINE))["replication"] is None


async def test_a_pair_of_clouds_replicates_by_kerberos(
    estate: Estate, kerberos_realm: KerberosCentre
) -> None:
    settings = {
        "realm": REALM,
        "configuration_file": str(kerberos_realm.configuration_file),
    }
    sites = []
    for name in CLOUD:
        changes = inventory(estate, name)
        for host in changes["inventory"]["hosts"]:
            host["keytab_file"] = str(kerberos_realm.host_keytab(host["fqdn"]))
        sites.append(estate.running(name, kerberos=settings, **changes))
    async with sites[0] as tokyo, sites[1] as osaka:
        for site, other in ((tokyo, "osaka"), (osaka, "tokyo")):
            arguments = {
                "replica_port": KERBEROS_PORT,
                "authentication": "kerberos",
                "allowed_primaries": estate.fqdns(other),
            }
            await site.done(Verb.PREPARE_CLOUD, CLOUD[site.name], arguments)
        await protect_paired(estate, tokyo, osaka, authentication="kerberos", compression=True)
        await tokyo.guests[MACHINE].write(0, 8192, b"by ticket", 4)
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 4)
        # Nobody has a certificate here.
        hosts = (await tokyo.get("/vmm/v1/inventory"))["hosts"]
        assert {host["certificate_thumbprint"] for host in hosts} == {None}
        await fail_over_planned(tokyo, osaka)
        assert tokyo.disks(MACHINE) == osaka.disks(REPLICA)


async def test_settings_of_a_host_are_changed_while_it_replicates(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        fqdn = estate.fqdns("tokyo")[0]
        host: dict[str, Any] = {
            "host_group": "group",
            "disks_directory": str(estate.folder / "tokyo" / fqdn),
            # A proxy at which nobody listens: whoever goes through it does not arrive.
            "proxy": {"address": "127.0.0.1", "port": 1},
            "bandwidth": [{"bytes_per_second": 1_000_000}],
        }
        status, answer = await tokyo.manage("PUT", f"/hosts/{fqdn}", host)
        assert status == 200, answer
        failed = await tokyo.until(
            MACHINE, lambda each: each["replication"]["last_error"] is not None
        )
        assert "proxy 127.0.0.1:1 is not reached" in failed["replication"]["last_error"]
        host["proxy"] = None
        assert (await tokyo.manage("PUT", f"/hosts/{fqdn}", host))[0] == 200
        await tokyo.guests[MACHINE].write(0, 0, b"past the proxy", 6)
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 6)
        for bad in (
            {"bandwidth": [{"bytes_per_second": 1}]},
            {"proxy": {"address": "proxy.example", "port": 3128}},
            {"authorisations": {"entries": [{"primary": "*", "trust_group": "g"}]}},
        ):
            status, _ = await tokyo.manage("PUT", f"/hosts/{fqdn}", {**host, **bad})
            assert status == 400, bad


async def test_bypassing_the_proxy_is_the_policys_word(estate: Estate) -> None:
    proxy = {"address": "127.0.0.1", "port": 1}
    changes = inventory(estate, "tokyo", proxy=proxy)
    async with estate.running("tokyo", **changes) as tokyo, estate.running("osaka") as osaka:
        with pytest.raises(AssertionError, match="could not be reached"):
            await enable(estate, tokyo, osaka)
        await protect_paired(estate, tokyo, osaka, bypass_proxy=True)
        assert tokyo.disks(MACHINE) == osaka.disks(REPLICA)
