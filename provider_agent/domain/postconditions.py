"""When a verb has succeeded: what must be read back, per verb (docs/wire-contract.md, the table).

The verb's own answer proves nothing. Each check returns null, or the reason in words why what was
read back is not what the verb promises.
"""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from provider_agent.domain.adapter_checks import adapters_as_asked, adapters_placed
from provider_agent.domain.read_back import (
    Check,
    Expected,
    ReadBack,
    differs,
    first,
    in_state,
    replicates,
)
from provider_agent.domain.replication_checks import (
    at_point,
    copy_begun,
    copy_cancelled,
    does_not_replicate,
    goes_on,
    resynchronization_cancelled,
    resynchronizes,
)
from provider_agent.domain.replication_settings import settings_unmet
from wire_contract.vmm_interface import (
    CloudView,
    HostView,
    InventoryView,
    MachineView,
)
from wire_contract.vocabulary import (
    CLOUD_VERBS,
    SERVER_VERBS,
    ReplicationMode,
    ReplicationState,
    RunState,
    Verb,
)

S = ReplicationState


def unmet(expected: Expected, seen: ReadBack) -> str | None:
    """Return why the post-condition of the verb does not hold, or null when it holds."""
    if expected.verb in CLOUD_VERBS:
        if seen.cloud is None:
            return f"cloud {expected.target} does not exist"
        if expected.verb is Verb.UPDATE_REPLICATION:
            return settings_unmet(expected, seen)
        return _CLOUD_CHECKS[expected.verb](expected, seen.cloud, seen.hosts)
    if expected.verb in SERVER_VERBS:
        return _server_unmet(expected, seen.inventory)
    return _machine_unmet(expected, seen)


def _machine_unmet(expected: Expected, seen: ReadBack) -> str | None:
    if expected.verb is Verb.REMOVE_TEST_MACHINE or expected.arguments.get("delete_replica"):
        return None if seen.machine is None else f"machine {expected.target} still exists"
    if seen.machine is None:
        return None if may_be_gone(expected.verb, expected.arguments) else _no_machine(expected)
    if seen.machine.machine_id != expected.target:
        return f"machine {seen.machine.machine_id} was read instead of {expected.target}"
    return _MACHINE_CHECKS[expected.verb](expected, seen.machine)


def may_be_gone(verb: Verb, arguments: Mapping[str, JsonValue]) -> bool:
    """Return whether a verb leaves nothing to do where its machine is not there any more.

    A machine that somebody removed by hand has neither a relationship nor the property of one.
    """
    if verb is Verb.UPDATE_PROTECTION:
        return arguments.get("item") is None
    return verb in {Verb.DISABLE_REPLICATION, Verb.REMOVE_TEST_MACHINE}


def _no_machine(expected: Expected) -> str:
    return f"machine {expected.target} does not exist"


# On the VMM server.


def _server_unmet(expected: Expected, inventory: InventoryView | None) -> str | None:
    if inventory is None or inventory.vmm.vmm_id != expected.target:
        return f"server {expected.target} does not exist"
    return _SERVER_CHECKS[expected.verb](expected, inventory)


def _test_networks_made(expected: Expected, inventory: InventoryView) -> str | None:
    test_machine = expected.arguments.get("test_machine_id")
    present = {
        network.network_id
        for network in inventory.networks
        if test_machine in {network.test_of, *network.test_users}
    }
    missing = sorted(_network_ids(expected) - present)
    return f"there is no network {missing[0]} for the test machine" if missing else None


def _test_networks_gone(expected: Expected, inventory: InventoryView) -> str | None:
    test_machine = expected.arguments.get("test_machine_id")
    for each in inventory.networks:
        if test_machine == each.test_of and not set(each.test_users) - {test_machine}:
            return f"network {each.friendly_name} still exists"
        if test_machine in each.test_users:
            return f"network {each.friendly_name} is still kept for the test machine"
    return None


def _network_ids(expected: Expected) -> set[str]:
    wanted = expected.arguments.get("networks")
    rows = wanted if isinstance(wanted, list) else []
    return {str(each["network_id"]) for each in rows if isinstance(each, dict)}


def _cleaned_up(_: Expected, inventory: InventoryView) -> str | None:
    for cloud in inventory.clouds:
        if cloud.paired_role or cloud.partner_cloud_id is not None:
            return f"cloud {cloud.cloud_id} is still paired"
    for host in inventory.hosts:
        if host.replica_enabled or host.certificate_thumbprint is not None:
            return f"host {host.fqdn} still accepts replication or has a certificate"
    return None


# On a cloud.


def _hosts_of(cloud: CloudView, hosts: tuple[HostView, ...]) -> dict[str, HostView | None]:
    found = {host.fqdn: host for host in hosts}
    return {fqdn: found.get(fqdn) for fqdn in cloud.host_fqdns}


def _hosts_configured(
    expected: Expected, cloud: CloudView, hosts: tuple[HostView, ...]
) -> str | None:
    if not cloud.host_fqdns:
        return f"cloud {cloud.cloud_id} has no hosts"
    for fqdn, host in _hosts_of(cloud, hosts).items():
        wanted = expected.thumbprints.get(fqdn)
        found = host.certificate_thumbprint if host is not None else None
        if wanted is None or found is None or found.lower() != wanted.lower():
            return f"host {fqdn} has certificate {found}, not the issued {wanted}"
    return None


def _cloud_prepared(
    expected: Expected, cloud: CloudView, hosts: tuple[HostView, ...]
) -> str | None:
    port = expected.arguments.get("replica_port")
    allowed = expected.arguments.get("allowed_primaries")
    partners = set(map(str, allowed)) if isinstance(allowed, list) else set()
    if not cloud.host_fqdns:
        return f"cloud {cloud.cloud_id} has no hosts"
    for fqdn, host in _hosts_of(cloud, hosts).items():
        if host is None or not host.replica_enabled:
            return f"host {fqdn} does not accept replication"
        if host.replica_port != port:
            return f"host {fqdn} listens on port {host.replica_port}, not {port}"
        if missing := partners - set(host.allowed_primaries):
            return f"host {fqdn} does not authorise {', '.join(sorted(missing))}"
    return None


def _cloud_paired(expected: Expected, cloud: CloudView, _: tuple[HostView, ...]) -> str | None:
    return first(
        differs("paired_role", expected.arguments.get("role"), cloud.paired_role),
        differs(
            "partner_cloud_id", expected.arguments.get("partner_cloud_id"), cloud.partner_cloud_id
        ),
    )


def _cloud_unpaired(_: Expected, cloud: CloudView, __: tuple[HostView, ...]) -> str | None:
    return None if not cloud.paired_role and cloud.partner_cloud_id is None else "still paired"


# On a machine.


def _in_mode(mode: ReplicationMode) -> Check:
    def check(_: Expected, machine: MachineView) -> str | None:
        found = machine.replication.mode if machine.replication else ReplicationMode.NONE
        return differs("replication mode", mode.value, found.value)

    return check


def _run_state(state: RunState) -> Check:
    def check(_: Expected, machine: MachineView) -> str | None:
        return differs("run state", state.value, machine.run_state.value)

    return check


def _all_of(*checks: Check) -> Check:
    def check(expected: Expected, machine: MachineView) -> str | None:
        for each in checks:
            if (reason := each(expected, machine)) is not None:
                return reason
        return None

    return check


def _has_epoch(expected: Expected, machine: MachineView) -> str | None:
    # 0: a task without an item has no epoch to check (wire_contract.events.Assignment).
    if expected.epoch == 0:
        return None
    return differs("epoch", expected.epoch, machine.epoch)


def _nothing_pending(_: Expected, machine: MachineView) -> str | None:
    replication = replicates(machine)
    if isinstance(replication, str):
        return replication
    return differs("pending_bytes", 0, replication.pending_bytes)


def _peer_as_asked(expected: Expected, machine: MachineView) -> str | None:
    replication = replicates(machine)
    if isinstance(replication, str):
        return replication
    wanted = expected.arguments
    # On which node of a cluster the replica is, its broker has said.
    at_broker = wanted.get("replica_broker") is not None
    return first(
        differs("relationship", wanted.get("relationship_id"), replication.relationship_id),
        differs("peer machine", wanted.get("replica_machine_id"), replication.peer_machine_id),
        None
        if at_broker
        else differs("peer host", wanted.get("replica_host"), replication.peer_host),
        differs("peer port", wanted.get("replica_port"), replication.peer_port),
    )


def _says_where(expected: Expected, _: MachineView) -> str | None:
    """The primary is told where its replica is: without that, the job could not go on."""
    host, port = expected.result.get("replica_host"), expected.result.get("replica_port")
    if isinstance(host, str) and isinstance(port, int):
        return None
    return "the answer names no replica_host and replica_port"


def _placed(expected: Expected, machine: MachineView) -> str | None:
    return first(
        _says_where(expected, machine),
        differs("host", expected.result.get("replica_host"), machine.host),
        differs("cloud", expected.arguments.get("cloud_id"), machine.cloud_id),
        differs("hyperv_id", expected.arguments.get("hyperv_id"), machine.hyperv_id),
    )


def _protection_updated(expected: Expected, machine: MachineView) -> str | None:
    return differs("protected_item", expected.arguments.get("item"), machine.protected_item)


def _guest_ended(_: Expected, machine: MachineView) -> str | None:
    return None if machine.guest is None else f"guest process {machine.guest.pid} still answers"


def _cut_reached(expected: Expected, machine: MachineView) -> str | None:
    cut = expected.arguments.get("expected_cut")
    if not expected.arguments.get("planned") or not isinstance(cut, int):
        return None
    found = machine.replication.last_cut if machine.replication else 0
    return None if found >= cut else f"last_cut is {found}, below the expected {cut}"


def _guest_answered(expected: Expected, machine: MachineView) -> str | None:
    guest = machine.guest
    if guest is None:
        return "no guest process answered"
    if not expected.nonce or guest.nonce != expected.nonce:
        return "the guest did not answer this read-back's nonce"
    return None if guest.verified else "the host could not verify the guest's answer"


def _reversed_state(expected: Expected, machine: MachineView) -> str | None:
    if expected.arguments.get("resynchronize"):
        return in_state(S.READY, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION, S.REPLICATING)(
            expected, machine
        )
    return in_state(S.REPLICATING)(expected, machine)


def _started_replication(expected: Expected, machine: MachineView) -> str | None:
    replication = replicates(machine)
    if isinstance(replication, str):
        return replication
    at_least = replication.state >= S.READY
    return first(None if at_least else "replication is disabled", _peer_as_asked(expected, machine))


def _is_test_copy(expected: Expected, machine: MachineView) -> str | None:
    wanted = expected.arguments.get("replica_machine_id")
    return differs("test_machine_of", wanted, machine.test_machine_of)


def _kept(expected: Expected, machine: MachineView) -> str | None:
    if machine.kept_of != expected.arguments.get("machine_id"):
        return f"it holds the disks of {machine.kept_of}"
    return None if machine.disks else "it has no disks"


def _adapters_set(expected: Expected, machine: MachineView) -> str | None:
    each_its_own = expected.arguments.get("network_ids")
    if isinstance(each_its_own, list):
        found = [nic.network_id for nic in machine.nics]
        wanted_ids = [*each_its_own, *[None] * len(found)][: len(found)]
        if any(each_its_own) and not found:
            return "there is no adapter to connect"
        return differs("the adapters' networks", wanted_ids, found)
    wanted = expected.arguments.get("network_id")
    if wanted is not None and not machine.nics:
        return f"there is no adapter on network {wanted}"
    reasons = (differs(f"adapter {n.nic_id}", wanted, n.network_id) for n in machine.nics)
    return first(*reasons)


def _confirmed(expected: Expected, machine: MachineView) -> str | None:
    if not expected.arguments.get("authoritative"):
        return _run_state(RunState.OFF)(expected, machine)
    return None if machine.epoch_confirmed else "the epoch is not confirmed"


_CLOUD_CHECKS: Final[
    Mapping[Verb, Callable[[Expected, CloudView, tuple[HostView, ...]], str | None]]
] = {
    Verb.CONFIGURE_HOSTS: _hosts_configured,
    Verb.PREPARE_CLOUD: _cloud_prepared,
    Verb.PAIR_CLOUD: _cloud_paired,
    Verb.UNPAIR_CLOUD: _cloud_unpaired,
}

_SERVER_CHECKS: Final[Mapping[Verb, Callable[[Expected, InventoryView], str | None]]] = {
    Verb.CLEAN_UP: _cleaned_up,
    Verb.CREATE_TEST_NETWORKS: _test_networks_made,
    Verb.REMOVE_TEST_NETWORKS: _test_networks_gone,
}

_MACHINE_CHECKS: Final[Mapping[Verb, Check]] = {
    Verb.PLACE_REPLICA: _all_of(_run_state(RunState.OFF), _placed, adapters_placed),
    Verb.ENABLE_REPLICATION: _all_of(_in_mode(ReplicationMode.PRIMARY), _started_replication),
    Verb.START_INITIAL_REPLICATION: copy_begun,
    Verb.CANCEL_INITIAL_REPLICATION: copy_cancelled,
    Verb.EXPORT_INITIAL_REPLICATION: in_state(
        S.WAITING_TO_COMPLETE_INITIAL_REPLICATION, S.REPLICATING
    ),
    Verb.IMPORT_INITIAL_REPLICATION: in_state(S.REPLICATING),
    Verb.COMPLETE_INITIAL_REPLICATION: in_state(S.REPLICATING),
    Verb.PAUSE_REPLICATION: in_state(S.SUSPENDED, S.RESYNCHRONIZATION_SUSPENDED),
    Verb.RESUME_REPLICATION: goes_on,
    Verb.RESYNCHRONIZE: resynchronizes,
    Verb.CANCEL_RESYNCHRONIZATION: resynchronization_cancelled,
    Verb.DISABLE_REPLICATION: does_not_replicate,
    Verb.UPDATE_PROTECTION: _protection_updated,
    Verb.CONNECT_ADAPTERS: adapters_as_asked,
    Verb.SHUT_DOWN: _all_of(_run_state(RunState.OFF), _guest_ended),
    Verb.PREPARE_FAILOVER: _all_of(in_state(S.SYNCED_REPLICATION_COMPLETE), _nothing_pending),
    Verb.SYNCHRONIZE: _nothing_pending,
    Verb.FAIL_OVER: _all_of(
        in_state(S.RECOVERED), _has_epoch, _cut_reached, at_point, adapters_as_asked
    ),
    Verb.CHANGE_RECOVERY_POINT: _all_of(
        in_state(S.RECOVERED), _run_state(RunState.OFF), _has_epoch, at_point
    ),
    # A source that was gone on without may have to be compared, or be at it, by then.
    Verb.CANCEL_FAILOVER: in_state(
        S.REPLICATING,
        S.SUSPENDED,
        S.CRITICAL,
        S.WAITING_TO_START_RESYNCHRONIZE,
        S.RESYNCHRONIZING,
        S.RESYNCHRONIZATION_SUSPENDED,
    ),
    Verb.START: _all_of(_run_state(RunState.RUNNING), _guest_answered, _has_epoch),
    Verb.COMMIT: in_state(S.COMMITTED),
    # A copy that an earlier reversal has prepared already would hide that nothing was done.
    Verb.PREPARE_REVERSE: _all_of(_in_mode(ReplicationMode.REPLICA), _has_epoch, _says_where),
    Verb.REVERSE_REPLICATE: _all_of(
        _in_mode(ReplicationMode.PRIMARY), _reversed_state, _peer_as_asked
    ),
    Verb.KEEP_COPY: _all_of(_run_state(RunState.OFF), _kept),
    Verb.CREATE_TEST_MACHINE: _is_test_copy,
    Verb.PREPARE_TEST_MACHINE: _adapters_set,
    Verb.CONFIRM_EPOCH: _all_of(_has_epoch, _confirmed),
}
