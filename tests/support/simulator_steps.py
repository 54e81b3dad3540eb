"""What a hub would have two simulated sites do, step by step, for tests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3
from cryptography import x509

from certs.identity import check_request
from certs.profiles import Profile
from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
    trust,
)
from wire_contract.vocabulary import Verb


async def certificates_for(site: RunningSite) -> list[dict[str, str]]:
    """Have the certificate requests of a site's hosts issued."""
    path = f"/vmm/v1/clouds/{CLOUD[site.name]}/host-certificate-requests"
    issued = []
    for request in (await site.get(path))["requests"]:
        asked = check_request(request["csr_pem"].encode())
        key = asked.public_key()
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        chain = trust().issue(
            Profile.HYPERV_HOST,
            key,  # type: ignore[arg-type]
            request["host"],
            datetime.now(UTC),
            dns_names=names.get_values_for_type(x509.DNSName),
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


async def place(
    estate: Estate, osaka: RunningSite, machine: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
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
        **more,
    }
    return await osaka.done(Verb.PLACE_REPLICA, REPLICA, arguments)


async def enable(
    estate: Estate,
    tokyo: RunningSite,
    osaka: RunningSite,
    *,
    policy: Mapping[str, Any] = POLICY,
) -> None:
    """Pair the clouds and enable replication; the copy is not begun."""
    await pair(estate, tokyo, osaka)
    placed = await place(estate, osaka, await tokyo.machine(MACHINE))
    await enable_at(tokyo, placed, policy=policy)


async def enable_at(
    tokyo: RunningSite, placed: Mapping[str, Any], *, policy: Mapping[str, Any] = POLICY
) -> None:
    """Enable replication to where the replica was placed."""
    arguments = {
        **placed,
        **policy,
        "relationship_id": "relationship-1",
        "replica_machine_id": REPLICA,
        "item": MACHINE,
    }
    await tokyo.done(Verb.ENABLE_REPLICATION, MACHINE, arguments)


async def protect(
    estate: Estate,
    tokyo: RunningSite,
    osaka: RunningSite,
    *,
    policy: Mapping[str, Any] = POLICY,
) -> None:
    """Bring the machine under protection, up to state 3 on both ends."""
    await enable(estate, tokyo, osaka, policy=policy)
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
