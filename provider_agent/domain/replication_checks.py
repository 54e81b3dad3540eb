"""Post-conditions of verbs on a relationship, its points and its copies."""

from provider_agent.domain.read_back import Expected, differs, first, in_state, replicates
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationState

S = ReplicationState


def copy_begun(expected: Expected, machine: MachineView) -> str | None:
    """The copy has begun, or waits for the time that was asked."""
    replication = machine.replication
    waits = replication is not None and replication.scheduled_at is not None
    if expected.arguments.get("start_at") is not None and waits:
        return in_state(S.READY)(expected, machine)
    return in_state(S.WAITING_TO_COMPLETE_INITIAL_REPLICATION, S.REPLICATING)(expected, machine)


def copy_cancelled(expected: Expected, machine: MachineView) -> str | None:
    """No copy runs or waits."""
    waits = machine.replication is not None and machine.replication.scheduled_at is not None
    return first(
        "a copy is still scheduled" if waits else None, in_state(S.READY)(expected, machine)
    )


def goes_on(_: Expected, machine: MachineView) -> str | None:
    """Replication does not stand still, or waits for a time that is set."""
    replication = replicates(machine)
    if isinstance(replication, str):
        return replication
    stands = replication.state in (
        S.SUSPENDED,
        S.CRITICAL,
        S.RESYNCHRONIZATION_SUSPENDED,
        S.DISABLED,
    )
    waits = replication.state is S.WAITING_TO_START_RESYNCHRONIZE
    if stands or (waits and replication.resynchronize_at is None):
        return f"replication still stands in state {int(replication.state)}"
    return None


def resynchronizes(expected: Expected, machine: MachineView) -> str | None:
    """The copies are being compared, or will be at a time that is set."""
    return first(
        goes_on(expected, machine),
        in_state(S.WAITING_TO_START_RESYNCHRONIZE, S.RESYNCHRONIZING, S.REPLICATING)(
            expected, machine
        ),
    )


def resynchronization_cancelled(expected: Expected, machine: MachineView) -> str | None:
    """A comparison is required, and none runs or waits."""
    waits = machine.replication is not None and machine.replication.resynchronize_at is not None
    return first(
        "a resynchronization is still scheduled" if waits else None,
        in_state(S.WAITING_TO_START_RESYNCHRONIZE)(expected, machine),
    )


def does_not_replicate(_: Expected, machine: MachineView) -> str | None:
    """This end has no relationship any more."""
    replication = machine.replication
    return None if replication is None else f"replicates still, in state {int(replication.state)}"


def at_point(expected: Expected, machine: MachineView) -> str | None:
    """The copy stands at the point that was asked, if one was."""
    wanted = expected.arguments.get("recovery_point")
    if wanted is None:
        return None
    stand = machine.replication.failed_over_to if machine.replication is not None else None
    return differs("recovery point", wanted, None if stand is None else stand.point_id)
