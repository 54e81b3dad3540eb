"""Verbs on the VMM server itself: what the registration with a hub has left behind."""

from typing import Any, Final

import structlog

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import NoArguments
from vmm_simulator.verbs.call import Call, Result
from vmm_simulator.vmm.records import CloudRecord, HostRecord

NAMES_SHOWN_MAX: Final = 10

log = structlog.get_logger(__name__)


def check_clean_up(call: Call[NoArguments]) -> None:
    """Refuse while a machine is replicated or protected: its copies would be left unguarded."""
    machines = call.fabric.store.machines.values()
    protected = sorted(each.name for each in machines if each.protected)
    if protected:
        raise RefusedError(
            Code.INVALID_STATE,
            f"{len(protected)} machines are still protected: "
            + ", ".join(protected[:NAMES_SHOWN_MAX]),
            "end their protection first",
        )


async def clean_up(call: Call[NoArguments]) -> Result:
    """Take the pairing from every cloud; listener, partners and certificate from every host."""
    store = call.fabric.store
    for cloud in list(store.clouds.values()):
        await store.change_cloud(cloud.cloud_id, _unpaired)
        call.reached(f"unpaired {cloud.name}")
    for record in list(store.hosts.values()):
        host = call.fabric.hosts[record.fqdn]
        await host.stop_listening()
        host.credentials.forget()
        await store.change_host(record.fqdn, _bare)
        log.info("host_cleaned_up", host=record.fqdn)
        call.reached(f"cleaned up {record.fqdn}")
    await call.fabric.brokers.settle()
    return {}


def _unpaired(cloud: CloudRecord) -> CloudRecord:
    return cloud.model_copy(update={"paired_role": "", "partner_cloud_id": None})


def _bare(host: HostRecord) -> HostRecord:
    update: dict[str, Any] = {
        "replica_port": None,
        "replica_ports": {},
        "allowed_primaries": {},
        "partner_clusters": {},
        "certificate_thumbprint": None,
        "certificate_names": None,
    }
    return host.model_copy(update=update)
