"""The estate of the recordings: two VMM servers, their clouds, one machine and its replica."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from service_hub.domain.access import OperatorIdentity, with_role
from service_hub.domain.errors import UnauthenticatedError
from wire_contract.vmm_interface import (
    ClassificationView,
    CloudView,
    DiskView,
    HostView,
    InventoryView,
    MachineView,
    NetworkView,
    NicView,
    RecoveryPointView,
    ReplicationView,
    SubnetView,
    VmmView,
)
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState, RunState, Side

NOW = datetime(2026, 3, 4, 13, 54, 53, 559095, tzinfo=UTC)
PROVIDER_URL = "https://127.0.0.1:9443"
TOKENS = {"good": "Contributor", "reading": "Reader", "stranger": "Cook"}

SUBSCRIPTION = "77777777-b0c6-47a2-b37c-d8e65a629c18"
GROUP, VAULT = "E2ERg", "E2ETest"
FABRICS = {Side.PRIMARY: "a98e" * 16, Side.RECOVERY: "38de" * 16}
CLOUDS = {
    Side.PRIMARY: "b2b708f7-5500-472d-9b4e-34a88340b067",
    Side.RECOVERY: "cd28d671-bd2a-4894-9ac8-82136c8104bc",
}
FREE_CLOUD = "a61894df-5760-42cb-ae76-b852ccd9f8ec"
MACHINE = "672ac946-913b-4297-8c35-1aae8c388f63"
REPLICA = "0b6fe285-a351-4cbd-b808-4252c62dabec"
NETWORK = "3e820a25-2f19-429b-b9f9-cdeab5465187"
LOGICAL_NETWORK = "87ab394f-165f-4aa9-bd84-b018500b4509"
CLASSIFICATION = "8891569e-aaef-4a46-a4a0-78c14f2d7b09"
POINT = "b22134ea-620c-474b-9fa5-3c1cb47708e3"
POLICY, MAPPING = "E2EPolicy1", "E2AClP26mapping"


class StillClock:
    """Time stands still; ids are numbered."""

    def __init__(self) -> None:
        self.time = NOW
        self.ids = 0

    def now(self) -> datetime:
        """Return the present moment."""
        return self.time

    def new_id(self) -> str:
        """Return the next GUID."""
        self.ids += 1
        return str(UUID(int=self.ids))


class KnownTokens:
    """Takes three tokens, one of each kind of role."""

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder."""
        del now
        if token not in TOKENS:
            raise UnauthenticatedError("the token is refused: unknown")
        return with_role("anna", TOKENS[token])


def replication(side: Side) -> ReplicationView:
    """Return a relationship at rest, as one end sees it."""
    primary = side is Side.PRIMARY
    points = (RecoveryPointView(point_id=POINT, taken_at=NOW, kind="CrashConsistent"),)
    return ReplicationView(
        relationship_id="relation",
        mode=ReplicationMode.PRIMARY if primary else ReplicationMode.REPLICA,
        state=ReplicationState.REPLICATING,
        health=Health.NORMAL,
        peer_host="peer.example",
        peer_port=8084,
        peer_machine_id=REPLICA if primary else MACHINE,
        interval_seconds=30,
        progress_percent=41.7 if primary else None,
        last_replication_at=NOW - timedelta(seconds=20),
        recovery_points=() if primary else points,
    )


def machine(side: Side, *, name: str = "VM1", replicated: bool = False) -> MachineView:
    """Return one copy of the machine."""
    return MachineView(
        machine_id=MACHINE if side is Side.PRIMARY else REPLICA,
        hyperv_id=MACHINE,
        name=name,
        cloud_id=CLOUDS[side],
        host=f"host1.{side.lower()}.example",
        generation=1,
        run_state=RunState.RUNNING if side is Side.PRIMARY else RunState.OFF,
        epoch=1,
        fenced=False,
        epoch_confirmed=True,
        start_blocked_by=None,
        protected_item=None,
        disks=(
            DiskView(
                disk_id="4c124228-db01-44a1-9acf-62b103d7fbc8",
                name="VM1",
                kind="Data",
                size_bytes=1 << 30,
            ),
        ),
        nics=(
            NicView(
                nic_id=f"51c5a87f-68e6-4740-89fe-811e6d22f36{side[0].lower()}",
                network_id=NETWORK,
                network_name="corp",
            ),
        ),
        replication=replication(side) if replicated else None,
    )


def inventory(side: Side, machines: tuple[MachineView, ...]) -> InventoryView:
    """Return what one VMM server manages."""
    clouds = [CLOUDS[side], *([FREE_CLOUD] if side is Side.PRIMARY else [])]
    host = f"host1.{side.lower()}.example"
    return InventoryView(
        vmm=VmmView(vmm_id=f"vmm-{side.lower()}", fqdn=f"vmm.{side.lower()}", version="3.2.7510.0"),
        clouds=tuple(
            CloudView(
                cloud_id=cloud,
                friendly_name=side.lower() if cloud != FREE_CLOUD else "free",
                capability_profile="Hyper-V",
                host_fqdns=(host,),
            )
            for cloud in clouds
        ),
        hosts=(HostView(fqdn=host, version="2012R2", cloud_ids=tuple(clouds)),),
        networks=(
            NetworkView(
                network_id=NETWORK,
                friendly_name="corp",
                network_type="VLANNetwork",
                logical_network_id=LOGICAL_NETWORK,
                cloud_ids=tuple(clouds),
                subnets=(
                    SubnetView(name="s", friendly_name="corp_0", address_list=("10.1.0.0/24-1 0",)),
                ),
            ),
        ),
        classifications=(
            ClassificationView(classification_id=CLASSIFICATION, friendly_name="Gold"),
        ),
        machines=machines,
    )
