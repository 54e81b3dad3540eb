"""The VMM service, its nodes and its RunAs accounts, as set-up and registration use them.

All of it is on the VMM interface (wire_contract.paths, VMM_SERVICE and below).
"""

from pydantic import Field

from wire_contract.model import WireModel

ACCOUNT_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}$"
ACCOUNTS_MAX = 100
PROXY_ACCOUNT = "DRAProxyAccount"
"""The RunAs account with the proxy's credentials (seed, step 3)."""


class NodeView(WireModel):
    """A server of VMM: of a cluster, or the only one; `provider_version` is what set-up noted."""

    fqdn: str
    active: bool
    provider_version: str | None = None


class RunAsAccountView(WireModel):
    """A RunAs account without its password; `restart_needed`: a newer one is not in force yet."""

    name: str
    user_name: str
    restart_needed: bool


class VmmServiceView(WireModel):
    """The VMM service; `cluster_role` is the role's name where VMM is a cluster."""

    vmm_id: str
    fqdn: str
    version: str
    update_rollup: int = Field(ge=0)
    service_account: str
    running: bool
    cluster_role: str | None = None
    nodes: tuple[NodeView, ...]
    free_disk_bytes: int | None = Field(default=None, ge=0)

    @property
    def active_node(self) -> str:
        """The node that the role is on."""
        return next(node.fqdn for node in self.nodes if node.active)


class ServiceControl(WireModel):
    """Start or stop the VMM service (of a cluster: the role); what already holds succeeds."""

    running: bool


class ActiveNode(WireModel):
    """Move the cluster role to this node."""

    node: str = Field(min_length=1, max_length=253)


class NodeProvider(WireModel):
    """Which provider is installed on a node; null: none any more."""

    provider_version: str | None = Field(default=None, min_length=1, max_length=64)


class RunAsAccounts(WireModel):
    """All RunAs accounts."""

    accounts: tuple[RunAsAccountView, ...]


class RunAsCredential(WireModel):
    """User and password of a RunAs account."""

    user_name: str = Field(min_length=1, max_length=256)
    password: str = Field(max_length=1024, repr=False)


class CloudSynchronization(WireModel):
    """Whether the cloud's metadata is synchronised with the vault (its property in VMM)."""

    synchronize: bool
