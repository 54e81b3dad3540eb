"""What the journal keeps of one end of a replication relationship."""

from datetime import datetime

from pydantic import model_validator

from vmm_simulator.hyperv.backend import Authentication, PointKind
from vmm_simulator.hyperv.schedule import Window
from vmm_simulator.hyperv.statistics import Statistics
from vmm_simulator.vmm.record import Record
from wire_contract.vocabulary import ReplicationMode, ReplicationState


class PointRecord(Record):
    """The recovery point that a replica was failed over to."""

    point_id: str
    taken_at: datetime
    kind: PointKind
    newest: bool


class AcknowledgedRecord(Record):
    """The newest change set that the replica has acknowledged, and the transfer that brought it."""

    cut: int
    transfer_id: str


class RelationshipRecord(Record):
    """One end of a replication relationship, with its WMI state number.

    `peer_broker` is the replica broker of the other end's cluster, which listens on the same port.
    `before` is where a pause, an error or a failover leads back to (null: state 3). `last_cut` is
    the newest change set that the replica is known to hold; the next one takes the number after
    it. `resynchronize`: the whole copy that is under way moves differences only. `diverged`: this
    replica was written to, changes alone would not make it equal again. `scheduled_at`: when the
    initial replication begins. `resynchronize_at`: when a required resynchronization begins, null
    when somebody has to ask for it. `exported_to`: where the initial copy was, or is being,
    exported; `exported` says that it is complete. `acknowledged`, `attempts` (transfers since, of
    which nobody knows whether they arrived) and `foreign_cut` (up to where another source has sent)
    tell which change sets are this source's own (source_chain).
    """

    relationship_id: str
    mode: ReplicationMode
    state: ReplicationState
    before: ReplicationState | None = None
    peer_host: str
    peer_port: int
    peer_broker: str | None = None
    peer_machine_id: str
    interval_seconds: int
    recovery_points: int = 0
    application_consistent_hours: int = 0
    compression: bool = False
    authentication: Authentication = Authentication.CERTIFICATE
    self_fence_seconds: int | None = None
    bypass_proxy: bool = False
    consistency_group: str | None = None
    window: Window = Window()
    last_cut: int = 0
    last_cut_record: int = 0
    acknowledged: AcknowledgedRecord | None = None
    attempts: tuple[str, ...] = ()
    foreign_cut: int | None = None
    last_replication_at: datetime | None = None
    last_application_consistent_at: datetime | None = None
    application_consistent_tried_at: datetime | None = None
    established_at: datetime
    transferred_bytes: int = 0
    resynchronize: bool = False
    diverged: bool = False
    scheduled_at: datetime | None = None
    resynchronize_at: datetime | None = None
    exported_to: str | None = None
    exported: bool = False
    awaits_import: bool = False
    failed_over_to: PointRecord | None = None
    statistics: Statistics = Statistics()
    last_error: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_former(cls, data: object) -> object:
        """Take over what journals of former versions say otherwise."""
        if not isinstance(data, dict) or "statistics" in data:
            return data
        former = dict(data)
        former["statistics"] = {
            "success_count": former.pop("successful_cycles", 0),
            "miss_count": former.pop("missed_cycles", 0),
        }
        waiting = former.get("state") == ReplicationState.WAITING_TO_START_RESYNCHRONIZE
        if waiting and "resynchronize_at" not in former:
            # They were always begun at once.
            former["resynchronize_at"] = former.get("established_at")
        return former
