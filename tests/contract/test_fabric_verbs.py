"""Every verb of the fabric driver under every fault, over the wire, on a whole life of a machine.

A verb that is refused, or whose connection vanishes before it, has no effect. A lie is found by
reading back. What breaks off half-way goes on under the same command. What vanished afterwards has
its effect once, and is told again. And at the end the post-condition is read back.

Over 400 lines because it is one life, in which each verb finds what the ones before it have left.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from pydantic import JsonValue

from certs.identity import thumbprint
from certs.tls import client_context
from provider_agent.domain.postconditions import unmet
from provider_agent.domain.read_back import Expected, ReadBack
from provider_agent.fabric.driver import (
    FabricDriver,
    FabricRefusedError,
    FabricUnreachableError,
)
from provider_agent.fabric.simulated_vmm import SimulatedVmm
from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    PORT,
    REPLICA,
    SHARE,
    Estate,
    RunningSite,
    make_estate,
    trust,
)
from tests.support.simulator_steps import certificates_for
from wire_contract.vmm_interface import Command
from wire_contract.vocabulary import CLOUD_VERBS, FABRIC_VERBS, SERVER_VERBS, FaultKind, Verb

SECONDS: Final = 30.0
NONCE: Final = "00112233445566778899aabbccddeeff"
FAR: Final = timedelta(hours=1)
REFUSED, BROKEN = 32774, 32768

HELD_BEFORE: Final = frozenset({Verb.COMPLETE_INITIAL_REPLICATION})
"""Mere waits: what they wait for may hold before they are asked, a lie about it is none."""

POLICY: Final = {
    "interval_seconds": 300,
    "recovery_points": 3,
    "application_consistent_hours": 1,
    "compression": False,
}


@dataclass
class End:
    """One site, with its driver as a provider has it."""

    site: RunningSite
    driver: FabricDriver

    @property
    def cloud(self) -> str:
        """Its cloud."""
        return CLOUD[self.site.name]

    async def see(self, verb: Verb, target: str) -> ReadBack:
        """Read back what a provider reads back after this verb."""
        if verb in SERVER_VERBS:
            return ReadBack(inventory=await self.driver.inventory())
        if verb not in CLOUD_VERBS:
            return ReadBack(machine=await self.driver.machine(target, NONCE))
        inventory = await self.driver.inventory()
        machines = tuple(each for each in inventory.machines if each.cloud_id == target)
        cloud = await self.driver.cloud(target)
        return ReadBack(cloud=cloud, hosts=inventory.hosts, machines=machines)


@dataclass
class Walk:
    """Asks for verbs under faults and keeps count."""

    estate: Estate
    tokyo: End
    osaka: End
    epoch: int = 1
    done: set[tuple[Verb, FaultKind]] = field(default_factory=set)

    async def do(
        self, end: End, verb: Verb, target: str, arguments: Mapping[str, Any] | None = None
    ) -> Mapping[str, JsonValue]:
        """Do a verb under every fault; its result."""
        asked = dict(arguments or {})
        expected = Expected(
            verb,
            target,
            epoch=0 if verb in CLOUD_VERBS | SERVER_VERBS else self.epoch,
            arguments=asked,
            nonce=NONCE,
            thumbprints=_thumbprints(asked),
        )
        command = Command(
            id=end.site.new_id(), fence=1, epoch=self.epoch, deadline=datetime.now(UTC) + FAR
        )
        held = unmet(expected, await end.see(verb, target)) is None
        await self._without_effect(end, expected, command)
        await self._with_effect(end, expected, command)
        await _set(end, verb, {"kind": FaultKind.SLOW, "seconds": 0.01})
        answer = await _perform(end, expected, command)
        assert answer.repeated, verb
        complete = Expected(
            verb,
            target,
            epoch=expected.epoch,
            arguments=asked,
            result=answer.result,
            nonce=NONCE,
            thumbprints=expected.thumbprints,
        )
        reason = unmet(complete, await end.see(verb, target))
        assert reason is None, (verb, reason)
        assert await _outcomes(end, command) == ["succeeded"], verb
        assert not held or verb in HELD_BEFORE, (verb, "a lie could not have been found")
        await end.site.faults()
        self.done |= {(verb, kind) for kind in FaultKind if kind is not FaultKind.HOLD}
        result: Mapping[str, JsonValue] = answer.result
        return result

    async def _without_effect(self, end: End, expected: Expected, command: Command) -> None:
        verb, before = expected.verb, await self._still(end, expected)
        await _set(end, verb, {"kind": FaultKind.REFUSE, "code": REFUSED})
        with pytest.raises(FabricRefusedError) as refused:
            await _perform(end, expected, command)
        assert refused.value.problem.code == REFUSED
        await _set(end, verb, {"kind": FaultKind.VANISH_BEFORE})
        with pytest.raises(FabricUnreachableError):
            await _perform(end, expected, command)
        await _set(end, verb, {"kind": FaultKind.LIE})
        answer = await _perform(end, expected, command)
        assert answer.result == {}
        assert await _outcomes(end, command) == []
        assert await self._still(end, expected) == before, verb

    async def _with_effect(self, end: End, expected: Expected, command: Command) -> None:
        verb = expected.verb
        await _set(end, verb, {"kind": FaultKind.PARTIAL, "code": BROKEN})
        with pytest.raises(FabricRefusedError) as broken:
            await _perform(end, expected, command)
        assert broken.value.problem.code == BROKEN, (verb, broken.value.problem)
        (outcome,) = await _outcomes(end, command)
        assert outcome.startswith("broken off after: "), verb
        await _set(end, verb, {"kind": FaultKind.VANISH_AFTER})
        with pytest.raises(FabricUnreachableError):
            await _perform(end, expected, command)

    async def _still(self, end: End, expected: Expected) -> object:
        """What a verb would change and nothing else does: states, pairing, settings."""
        seen = await end.see(expected.verb, expected.target)
        if seen.machine is not None:
            machine = seen.machine
            replication = machine.replication
            return (
                machine.run_state,
                machine.epoch,
                machine.fenced,
                machine.nics,
                machine.protected_item,
                replication
                and (
                    replication.mode,
                    replication.state,
                    replication.failed_over_to,
                    replication.scheduled_at,
                    replication.resynchronize_at,
                ),
            )
        if seen.inventory is not None:
            return (seen.inventory.clouds, seen.inventory.hosts, seen.inventory.networks)
        # Cycles go on meanwhile: of the machines of a cloud only what verbs on it change.
        settings = [
            each.replication and (each.replication.settings, each.replication.peer_port)
            for each in seen.machines
        ]
        return seen.cloud, seen.hosts, settings


def _thumbprints(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {
        each["host"]: thumbprint(x509.load_pem_x509_certificates(each["chain_pem"].encode())[0])
        for each in arguments.get("certificates", ())
    }


async def _set(end: End, verb: Verb, fault: Mapping[str, Any]) -> None:
    await end.site.faults({"verb": verb.value, "times": 1, **fault})


async def _perform(end: End, expected: Expected, command: Command) -> Any:
    return await end.driver.perform(
        expected.verb, expected.target, command, expected.arguments, SECONDS
    )


async def _outcomes(end: End, command: Command) -> list[str]:
    _, body = await end.site.manage("GET", "/effects")
    return [each["outcome"] for each in body["effects"] if each["command_id"] == command.id]


@contextlib.asynccontextmanager
async def end_of(estate: Estate, site: RunningSite) -> AsyncIterator[End]:
    tls = client_context(trust().root_pem)
    token = (estate.folder / "token").read_text().strip()
    url = f"https://127.0.0.1:{site.vmm_port}"
    async with SimulatedVmm.connect(url, tls, token) as driver:
        yield End(site, driver)


async def test_every_verb_under_every_fault(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    estate.offline = True
    # Nothing is sent by itself: each state stays until a verb leads on.
    calm: dict[str, Any] = {"replication": {"interval_seconds": 3600}}
    async with (
        estate.running("tokyo", **calm) as tokyo,
        estate.running("osaka", **calm) as osaka,
        end_of(estate, tokyo) as first,
        end_of(estate, osaka) as second,
    ):
        walk = Walk(estate, first, second)
        await pairing(walk)
        await enabling(walk)
        await copy_by_medium(walk)
        await changing_settings(walk)
        await pausing_and_comparing(walk)
        await drilling(walk)
        await failing_over(walk)
        await reversing(walk)
        await leaving(walk)
        wanted = {
            (verb, kind) for verb in FABRIC_VERBS for kind in FaultKind if kind != FaultKind.HOLD
        }
        assert walk.done == wanted


async def pairing(walk: Walk) -> None:
    for end, other in ((walk.tokyo, "osaka"), (walk.osaka, "tokyo")):
        certificates = {"certificates": await certificates_for(end.site)}
        await walk.do(end, Verb.CONFIGURE_HOSTS, end.cloud, certificates)
        partners = {
            "replica_port": PORT,
            "authentication": "certificate",
            "allowed_primaries": walk.estate.fqdns(other),
        }
        await walk.do(end, Verb.PREPARE_CLOUD, end.cloud, partners)
        role = {"role": "Primary", "partner_cloud_id": CLOUD[other]}
        await walk.do(end, Verb.PAIR_CLOUD, end.cloud, role)


async def enabling(walk: Walk) -> None:
    machine = await walk.tokyo.site.machine(MACHINE)
    keys = ("disk_id", "name", "kind", "size_bytes")
    placed = await walk.do(
        walk.osaka,
        Verb.PLACE_REPLICA,
        REPLICA,
        {
            "cloud_id": walk.osaka.cloud,
            "hyperv_id": MACHINE,
            "name": machine["name"],
            "generation": machine["generation"],
            "disks": [{key: disk[key] for key in keys} for disk in machine["disks"]],
            "primary_host": machine["host"],
            "item": MACHINE,
            "adapters": [{"nic_id": "replica-nic"}],
        },
    )
    relationship = {
        **placed,
        **POLICY,
        "relationship_id": "relationship-1",
        "replica_machine_id": REPLICA,
        "item": MACHINE,
    }
    await walk.do(walk.tokyo, Verb.ENABLE_REPLICATION, MACHINE, relationship)
    later = {"start_at": (datetime.now(UTC) + FAR).isoformat()}
    await walk.do(walk.tokyo, Verb.START_INITIAL_REPLICATION, MACHINE, later)
    await walk.do(walk.tokyo, Verb.CANCEL_INITIAL_REPLICATION, MACHINE)


async def copy_by_medium(walk: Walk) -> None:
    tokyo, osaka = walk.tokyo.site, walk.osaka.site
    exported = await walk.do(
        walk.tokyo, Verb.EXPORT_INITIAL_REPLICATION, MACHINE, {"folder": SHARE}
    )
    await tokyo.until(MACHINE, lambda each: bool(each["replication"]["exported"]))
    folder = {"folder": exported["folder"]}
    await walk.do(walk.osaka, Verb.IMPORT_INITIAL_REPLICATION, REPLICA, folder)
    await osaka.until(REPLICA, lambda each: each["replication"]["state"] == 3)
    await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
    await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == 3)
    await walk.do(walk.tokyo, Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
    adapter = {"nic_id": "replica-nic", "network_id": "network"}
    await walk.do(walk.osaka, Verb.CONNECT_ADAPTERS, REPLICA, {"adapters": [adapter]})
    item = {"item": MACHINE, "role": "Primary", "active": True}
    await walk.do(walk.tokyo, Verb.UPDATE_PROTECTION, MACHINE, item)
    await tokyo.guests[MACHINE].write(0, 70_000, b"written after the export", 7)
    await walk.do(walk.tokyo, Verb.SYNCHRONIZE, MACHINE)


async def changing_settings(walk: Walk) -> None:
    settings = {
        "interval_seconds": 30,
        "recovery_points": 4,
        "application_consistent_hours": 2,
        "compression": True,
        "authentication": "certificate",
        "replica_port": PORT,
    }
    for end in (walk.tokyo, walk.osaka):
        await walk.do(end, Verb.UPDATE_REPLICATION, end.cloud, settings)


async def pausing_and_comparing(walk: Walk) -> None:
    await walk.do(walk.osaka, Verb.PAUSE_REPLICATION, REPLICA)
    await walk.do(walk.osaka, Verb.RESUME_REPLICATION, REPLICA)
    await walk.do(walk.tokyo, Verb.PAUSE_REPLICATION, MACHINE)
    later = {"start_at": (datetime.now(UTC) + FAR).isoformat()}
    await walk.do(walk.tokyo, Verb.RESYNCHRONIZE, MACHINE, later)
    await walk.do(walk.tokyo, Verb.CANCEL_RESYNCHRONIZATION, MACHINE)
    await walk.tokyo.site.done(Verb.RESYNCHRONIZE, MACHINE)
    await walk.tokyo.site.until(MACHINE, lambda each: each["replication"]["state"] == 3)


async def drilling(walk: Walk) -> None:
    made = {
        "logical_network_id": "logical-test",
        "cloud_id": walk.osaka.cloud,
        "test_machine_id": "test-1",
        "networks": [
            {
                "network_id": "network-test-1",
                "name": "network - Test",
                "like": "WindowsNetworkVirtualization",
                "dynamic_addresses": False,
                "subnets": [{"name": "web", "address_list": ["10.9.0.0/24"]}],
            }
        ],
    }
    await walk.do(walk.osaka, Verb.CREATE_TEST_NETWORKS, "vmm-osaka", made)
    copy = {"replica_machine_id": REPLICA, "name": "SQL-01 - Test", "recovery_point": None}
    await walk.do(walk.osaka, Verb.CREATE_TEST_MACHINE, "test-1", copy)
    await walk.do(walk.osaka, Verb.PREPARE_TEST_MACHINE, "test-1", {"network_id": "network"})
    await walk.do(walk.osaka, Verb.START, "test-1")
    await walk.do(walk.osaka, Verb.REMOVE_TEST_MACHINE, "test-1")
    gone = {"test_machine_id": "test-1"}
    await walk.do(walk.osaka, Verb.REMOVE_TEST_NETWORKS, "vmm-osaka", gone)


async def failing_over(walk: Walk) -> None:
    osaka = walk.osaka.site
    await walk.do(walk.tokyo, Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
    await walk.do(walk.tokyo, Verb.PREPARE_FAILOVER, MACHINE)
    points = (await osaka.machine(REPLICA))["replication"]["recovery_points"]
    assert len(points) >= 2
    walk.epoch = 2
    unplanned = {"planned": False, "expected_cut": None, "recovery_point": None}
    await walk.do(walk.osaka, Verb.FAIL_OVER, REPLICA, unplanned)
    older = {"recovery_point": points[-1]["point_id"]}
    await walk.do(walk.osaka, Verb.CHANGE_RECOVERY_POINT, REPLICA, older)
    await walk.do(walk.osaka, Verb.CANCEL_FAILOVER, REPLICA)
    await osaka.done(Verb.FAIL_OVER, REPLICA, unplanned, epoch=2)
    await walk.do(walk.osaka, Verb.COMMIT, REPLICA)
    await osaka.done(Verb.START, REPLICA, epoch=2)


async def reversing(walk: Walk) -> None:
    host = (await walk.osaka.site.machine(REPLICA))["host"]
    preparing = {
        "relationship_id": "relationship-2",
        "primary_host": host,
        "primary_machine_id": REPLICA,
        "resynchronize": True,
        "interval_seconds": 300,
    }
    kept = {"machine_id": MACHINE, "name": "SQL-01 - Kept"}
    await walk.do(walk.tokyo, Verb.KEEP_COPY, "kept-1", kept)
    prepared = await walk.do(walk.tokyo, Verb.PREPARE_REVERSE, MACHINE, preparing)
    relationship = {
        **prepared,
        **POLICY,
        "relationship_id": "relationship-2",
        "replica_machine_id": MACHINE,
        "resynchronize": True,
    }
    await walk.do(walk.osaka, Verb.REVERSE_REPLICATE, REPLICA, relationship)
    await walk.osaka.site.done(
        Verb.START_INITIAL_REPLICATION, REPLICA, {"resynchronize": True}, epoch=2
    )
    await walk.osaka.site.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA, epoch=2)
    disowned = {"authoritative": False, "item": MACHINE}
    walk.epoch = 3
    await walk.do(walk.osaka, Verb.CONFIRM_EPOCH, REPLICA, disowned)


async def leaving(walk: Walk) -> None:
    await walk.do(walk.tokyo, Verb.DISABLE_REPLICATION, MACHINE)
    await walk.do(walk.osaka, Verb.DISABLE_REPLICATION, REPLICA)
    for end, target in ((walk.tokyo, MACHINE), (walk.osaka, REPLICA)):
        await end.site.done(Verb.UPDATE_PROTECTION, target, {"item": None}, epoch=walk.epoch)
    partner = {"partner_cloud_id": walk.osaka.cloud}
    await walk.do(walk.tokyo, Verb.UNPAIR_CLOUD, walk.tokyo.cloud, partner)
    await walk.do(walk.osaka, Verb.CLEAN_UP, "vmm-osaka")
