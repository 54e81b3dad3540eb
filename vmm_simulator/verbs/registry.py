"""Which function does which verb, with which arguments; the one list of all verbs."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmm_simulator.verbs import (
    adapters,
    arguments,
    cloud,
    drill,
    drill_networks,
    failover,
    keeping,
    machine,
    offline,
    protection,
    replication,
    reversal,
    server,
    settings,
)
from vmm_simulator.verbs.call import Perform
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.model import WireModel
from wire_contract.vocabulary import Verb


def _always(call: Any) -> bool:
    """State that is in the journal holds; later verbs may have carried it on."""
    del call
    return True


def _no_check(call: Any) -> None:
    """The verb is possible in every state."""
    del call


async def _ask_nobody(call: Any) -> None:
    """The verb depends on nobody else."""
    del call


def _as_it_is(call: Any, machine: MachineRecord) -> MachineRecord:
    """The epoch alone is stored."""
    del call
    return machine


def _never(call: Any) -> bool:
    """What lives in memory only is done again."""
    del call
    return False


@dataclass(frozen=True, slots=True)
class VerbRules:
    """How one verb is done.

    `check` refuses what cannot be done now, before anything is stored: a command that is refused
    must not raise the epoch, for that would end the copy which is rightly active elsewhere.
    `holds`: whether the effect of a command that succeeded before is still there. `exclusive`:
    whether it keeps other verbs from its machines; a mere wait does not. `ask` refuses like
    `check`, where another host has to be asked. `under_epoch`: what a higher epoch that comes with
    the verb makes of its machine, stored with it.
    """

    arguments: type[WireModel]
    perform: Perform[Any]
    check: Callable[[Any], None] = _no_check
    holds: Callable[[Any], bool] = _always
    exclusive: bool = True
    ask: Callable[[Any], Awaitable[None]] = _ask_nobody
    under_epoch: Callable[[Any, MachineRecord], MachineRecord] = _as_it_is


VERBS: Final[Mapping[Verb, VerbRules]] = {
    Verb.CONFIGURE_HOSTS: VerbRules(
        arguments.ConfigureHosts, cloud.configure_hosts, cloud.check_configure
    ),
    Verb.PREPARE_CLOUD: VerbRules(arguments.PrepareCloud, cloud.prepare_cloud, cloud.check_prepare),
    Verb.PAIR_CLOUD: VerbRules(arguments.PairCloud, cloud.pair_cloud, cloud.check_pair),
    Verb.UPDATE_REPLICATION: VerbRules(
        arguments.UpdateReplication, settings.update_replication, settings.check_update
    ),
    Verb.UNPAIR_CLOUD: VerbRules(arguments.UnpairCloud, cloud.unpair_cloud, cloud.check_unpair),
    Verb.CLEAN_UP: VerbRules(arguments.NoArguments, server.clean_up, server.check_clean_up),
    Verb.CREATE_TEST_NETWORKS: VerbRules(
        arguments.CreateTestNetworks, drill_networks.create, drill_networks.check_create
    ),
    Verb.REMOVE_TEST_NETWORKS: VerbRules(
        arguments.RemoveTestNetworks, drill_networks.remove, drill_networks.check_remove
    ),
    Verb.PLACE_REPLICA: VerbRules(arguments.PlaceReplica, protection.place),
    Verb.ENABLE_REPLICATION: VerbRules(
        arguments.EnableReplication, protection.enable, protection.check_enable
    ),
    Verb.START_INITIAL_REPLICATION: VerbRules(
        arguments.StartInitialReplication, protection.start_copy, protection.check_copy
    ),
    Verb.COMPLETE_INITIAL_REPLICATION: VerbRules(
        arguments.NoArguments,
        protection.complete_copy,
        protection.check_replicates,
        exclusive=False,
    ),
    Verb.CANCEL_INITIAL_REPLICATION: VerbRules(
        arguments.NoArguments, offline.cancel, offline.check_cancel
    ),
    Verb.EXPORT_INITIAL_REPLICATION: VerbRules(
        arguments.InOfflineFolder, offline.export, offline.check_export
    ),
    Verb.IMPORT_INITIAL_REPLICATION: VerbRules(
        arguments.InOfflineFolder, offline.import_copy, offline.check_import
    ),
    Verb.PAUSE_REPLICATION: VerbRules(
        arguments.NoArguments, replication.pause, replication.check_pause
    ),
    Verb.RESUME_REPLICATION: VerbRules(
        arguments.NoArguments, replication.resume, replication.check_resume
    ),
    Verb.RESYNCHRONIZE: VerbRules(
        arguments.Resynchronize, replication.resynchronize, replication.check_resynchronize
    ),
    Verb.CANCEL_RESYNCHRONIZATION: VerbRules(
        arguments.NoArguments, replication.cancel, replication.check_cancel
    ),
    Verb.DISABLE_REPLICATION: VerbRules(
        arguments.DisableReplication, replication.disable, replication.check_disable
    ),
    Verb.UPDATE_PROTECTION: VerbRules(
        arguments.UpdateProtection, machine.update_protection, machine.check_update_protection
    ),
    Verb.CONNECT_ADAPTERS: VerbRules(
        arguments.ConnectAdapters, adapters.connect_adapters, adapters.check_connect
    ),
    Verb.SHUT_DOWN: VerbRules(
        arguments.ShutDown, machine.shut_down, machine.check_shut_down, machine.is_off
    ),
    Verb.PREPARE_FAILOVER: VerbRules(
        arguments.NoArguments, failover.prepare_failover, failover.check_prepare
    ),
    Verb.SYNCHRONIZE: VerbRules(
        arguments.NoArguments, failover.synchronize, failover.check_synchronize
    ),
    Verb.FAIL_OVER: VerbRules(
        arguments.FailOver,
        failover.fail_over,
        failover.check_fail_over,
        ask=failover.ask_primary,
    ),
    Verb.CHANGE_RECOVERY_POINT: VerbRules(
        arguments.ChangeRecoveryPoint, failover.change_recovery_point, failover.check_change
    ),
    Verb.CANCEL_FAILOVER: VerbRules(
        arguments.NoArguments, failover.cancel_failover, failover.check_cancel
    ),
    Verb.START: VerbRules(
        arguments.NoArguments, machine.start, machine.check_start, machine.is_running
    ),
    Verb.COMMIT: VerbRules(arguments.NoArguments, failover.commit, failover.check_commit),
    Verb.PREPARE_REVERSE: VerbRules(
        arguments.PrepareReverse, reversal.prepare_reverse, reversal.check_prepare_reverse
    ),
    Verb.REVERSE_REPLICATE: VerbRules(
        arguments.ReverseReplicate, reversal.reverse_replicate, reversal.check_reverse
    ),
    Verb.KEEP_COPY: VerbRules(arguments.KeepCopy, keeping.keep, keeping.check_keep),
    Verb.CREATE_TEST_MACHINE: VerbRules(
        arguments.CreateTestMachine, drill.create, drill.check_create
    ),
    Verb.PREPARE_TEST_MACHINE: VerbRules(
        arguments.PrepareTestMachine, drill.prepare, drill.check_prepare
    ),
    Verb.REMOVE_TEST_MACHINE: VerbRules(arguments.NoArguments, drill.remove, drill.check_remove),
    Verb.CONFIRM_EPOCH: VerbRules(
        arguments.ConfirmEpoch,
        machine.confirm_epoch,
        machine.check_epoch,
        _never,
        under_epoch=machine.fenced_by_the_word,
    ),
}

CREATING: Final = frozenset({Verb.PLACE_REPLICA, Verb.CREATE_TEST_MACHINE, Verb.KEEP_COPY})
"""Verbs whose target need not exist before; for removal it need not exist either."""

TARGET_MAY_BE_MISSING: Final = CREATING | {
    Verb.REMOVE_TEST_MACHINE,
    Verb.DISABLE_REPLICATION,
    Verb.UPDATE_PROTECTION,
}
