"""The VMM server's interface as the provider uses it: views, commands, problems (HTTPS, JSON)."""

from datetime import datetime

from pydantic import Field, JsonValue

from wire_contract.model import Moment, Name, WireModel
from wire_contract.vocabulary import (
    Health,
    ReplicationMode,
    ReplicationState,
    RunState,
)


class Command(WireModel):
    """Identity and limits of one effect.

    `id` is `job/task/attempt`; the fabric keeps the highest epoch per machine, durably, before it
    acts, and refuses a lower one. After `deadline` nothing is begun.
    """

    id: str = Field(min_length=1, max_length=300)
    fence: int = Field(ge=1)
    epoch: int = Field(ge=0)
    deadline: datetime


class VerbRequest(WireModel):
    """Body of every verb: the command and its arguments."""

    command: Command
    arguments: dict[str, JsonValue]


class VerbAnswer(WireModel):
    """What the verb returned; it proves nothing, the read-back does. `result` feeds later tasks."""

    result: dict[str, JsonValue] = Field(default_factory=dict)
    repeated: bool = False


class Problem(WireModel):
    """A refusal in words: `code` is the WMI return code (32768...) or one of the catalogue."""

    code: int
    message: str
    possible_causes: str = ""
    recommended_action: str = ""


class SubnetView(WireModel):
    """A subnet of a VM network."""

    name: str
    friendly_name: str
    address_list: tuple[str, ...] = ()


class NetworkView(WireModel):
    """A VM network and the clouds that its logical network is attached to.

    `test_of`: the test that it was made for, null for one that an administrator made; `test_users`:
    the test machines that share it.
    """

    network_id: str
    friendly_name: str
    network_type: str
    logical_network_id: str
    cloud_ids: tuple[str, ...]
    subnets: tuple[SubnetView, ...] = ()
    test_of: str | None = None
    test_users: tuple[str, ...] = ()


class ClassificationView(WireModel):
    """A storage classification; `cloud_ids`: the clouds of which a host sees a store of it."""

    classification_id: str
    friendly_name: str
    cloud_ids: tuple[str, ...] = ()


class HostGroupView(WireModel):
    """A host group of VMM: clouds are made of them; how many hosts and machines are in it."""

    host_group_id: str
    friendly_name: str
    path: str
    host_count: int = Field(ge=0)
    machine_count: int = Field(ge=0)


class ClusterView(WireModel):
    """A host cluster: `addressing` is DHCP or Static; `broker` its Hyper-V Replica Broker, or null.

    VMM makes the broker by itself only where the cluster gets addresses by DHCP.
    """

    name: str
    addressing: str
    broker: str | None = None


class HostView(WireModel):
    """A Hyper-V host: version is 2012 or 2012R2; `replica_*` is what the cloud pairing set up."""

    fqdn: str
    version: str
    cloud_ids: tuple[str, ...]
    cluster: str | None = None
    replica_enabled: bool = False
    replica_port: int | None = None
    certificate_thumbprint: str | None = None
    allowed_primaries: tuple[str, ...] = ()
    host_group_id: str | None = None


class CloudView(WireModel):
    """A VMM cloud; pairing fields are what `pair_cloud` recorded.

    `synchronized`: the vault lists the cloud and its machines (seed, step 3: cloud metadata).
    """

    cloud_id: str
    friendly_name: str
    capability_profile: str
    host_fqdns: tuple[str, ...]
    paired_role: str = ""
    partner_cloud_id: str | None = None
    synchronized: bool = True
    host_group_ids: tuple[str, ...] = ()


class DiskView(WireModel):
    """A virtual disk: a sparse raw file at `path` (absolute).

    `classification_id` is that of the store it lies in, null for a host's own folder.
    """

    disk_id: str
    name: str
    kind: str
    size_bytes: int = Field(ge=0)
    path: str | None = None
    classification_id: str | None = None


class NicView(WireModel):
    """A network adapter; `network_id` is null when it is not connected.

    `subnet` is the name of the VM network's subnet that it lies in. `address` was granted out of
    a static pool; only a synthetic adapter can be given one at a failover.
    """

    nic_id: str
    network_id: str | None
    network_name: str | None = None
    address_type: str = "Dynamic"
    subnet: str | None = None
    address: str | None = None
    synthetic: bool = True


class GuestAnswer(WireModel):
    """What the guest process of a running machine answered to a nonce.

    `proof` is blake3(nonce + superblock of the first disk + last record), made by the guest from
    the images it has locked; `verified` says that the host, reading the same blocks itself, came
    to the same figure.
    """

    pid: int
    nonce: str
    proof: str
    verified: bool
    file_system_uuid: str | None
    last_record: int
    epoch: int


class RecoveryPointView(WireModel):
    """A moment the replica can be started from."""

    point_id: str
    taken_at: Moment
    kind: str


class HealthCodeView(WireModel):
    """What is wrong with one end, under the number and in the words of the recorded service.

    `level` is Error or Warning, as recorded; the host's own judgement is `health`.
    """

    code: int
    level: str
    message: str
    possible_causes: str
    recommended_action: str


class ReplicationStatisticsView(WireModel):
    """Figures of one end since `begins_at`, in its monitoring interval (Measure-VMReplication).

    Sizes are bytes of change sets, latency the seconds from the start of sending to the
    acknowledgement. `cycle_count` is `success_count` and `miss_count`.
    """

    begins_at: Moment
    cycle_count: int = 0
    success_count: int = 0
    miss_count: int = 0
    size_bytes_average: int = 0
    size_bytes_max: int = 0
    latency_seconds_average: float = 0.0
    latency_seconds_max: float = 0.0
    network_failure_count: int = 0
    failure_count: int = 0
    application_consistent_failure_count: int = 0
    last_test_failover_at: Moment | None = None
    test_failover_running: bool = False


class ReplicationSettingsView(WireModel):
    """What a relationship was set to; a laboratory may replicate more often than it says.

    `self_fence_seconds`: its source stops by itself when it has reached neither hub nor replica for
    so long; null: never.
    """

    interval_seconds: int
    recovery_points: int = 0
    application_consistent_hours: int = 0
    compression: bool = False
    authentication: str = "certificate"
    self_fence_seconds: int | None = None


class ReplicationView(WireModel):
    """One side's view of a relationship.

    `last_cut` is the number of the newest change set that the replica holds durably (on the
    primary: that was acknowledged); `last_cut_record` the newest guest record inside it, as the
    guest named it in its writes. `recovery_points` of a replica, the newest first. `tracked_bytes`
    is the log: what has changed since the newest acknowledged set. `last_record` is the newest
    guest record on this copy's own disks, replicated or not (null: unknown). `failed_over_to` is
    the point that a failed-over replica stands at. `scheduled_at` is when initial replication
    begins, `resynchronize_at` when a required resynchronization does (null: when it is asked for).
    `exported`: the initial copy was written to a folder and waits for its import.
    """

    relationship_id: str
    mode: ReplicationMode
    state: ReplicationState
    health: Health
    peer_host: str
    peer_port: int
    peer_machine_id: str
    interval_seconds: int
    progress_percent: float | None = None
    transferred_bytes: int = 0
    last_replication_at: Moment | None = None
    last_cut: int = 0
    last_cut_record: int = 0
    pending_bytes: int = 0
    tracked_bytes: int = 0
    last_record: int | None = None
    recovery_points: tuple[RecoveryPointView, ...] = ()
    failed_over_to: RecoveryPointView | None = None
    scheduled_at: Moment | None = None
    resynchronize_at: Moment | None = None
    exported: bool = False
    settings: ReplicationSettingsView | None = None
    statistics: ReplicationStatisticsView | None = None
    health_codes: tuple[HealthCodeView, ...] = ()
    last_error: str | None = None


class WithoutHub(WireModel):
    """An operator at the site let a copy start while the hub was away: who, and why."""

    by: str = Field(max_length=256)
    reason: str = Field(min_length=1, max_length=1_000)


class StartedWithoutHub(WithoutHub):
    """The same as it was noted, at `at`."""

    at: Moment


class MachineView(WireModel):
    """A machine as its host sees it now; `hyperv_id` is the same on both ends, `machine_id` is not.

    `fenced`: a higher epoch was seen elsewhere or the hub said that this copy is not the active
    one; it cannot be started. `protection_asked_at`: when an administrator asked for protection in
    VMM; null once it has begun or ended; `protection_end_asked_at`: when one asked for its end.
    `start_blocked_by`: why a start would be refused now,
    or null.
    `kept_of`: the copy whose disks were set aside in this machine before it was overwritten.
    `recovery_points`: how many additional ones an administrator has set at the machine in VMM;
    null: none set. `started_without_hub`: the newest time that somebody let it start on his own.
    """

    machine_id: Name
    hyperv_id: str
    name: str
    cloud_id: str
    host: str
    generation: int
    run_state: RunState
    epoch: int
    fenced: bool
    epoch_confirmed: bool
    start_blocked_by: str | None
    protected_item: str | None
    protection_asked_at: Moment | None = None
    protection_end_asked_at: Moment | None = None
    test_machine_of: str | None = None
    kept_of: str | None = None
    disks: tuple[DiskView, ...]
    nics: tuple[NicView, ...] = ()
    replication: ReplicationView | None = None
    guest: GuestAnswer | None = None
    processors: int = 1
    memory_megabytes: int = 1024
    recovery_points: int | None = None
    started_without_hub: StartedWithoutHub | None = None


class VmmView(WireModel):
    """The VMM server itself."""

    vmm_id: str
    fqdn: str
    version: str


class InventoryView(WireModel):
    """All that a VMM server manages; sent to the hub as it is (never guest data)."""

    vmm: VmmView
    clouds: tuple[CloudView, ...]
    hosts: tuple[HostView, ...]
    networks: tuple[NetworkView, ...]
    classifications: tuple[ClassificationView, ...]
    machines: tuple[MachineView, ...]
    host_groups: tuple[HostGroupView, ...] = ()
    clusters: tuple[ClusterView, ...] = ()
