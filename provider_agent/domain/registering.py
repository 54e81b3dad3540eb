"""What has to hold before a server is registered (seed, step 3)."""

from provider_agent.domain.prerequisites import nodes_of_other_version
from wire_contract.vmm_service import NodeView, VmmServiceView

ENCRYPTION_UNUSED = (
    "the encryption setting is for replication from VMM to Azure; between two VMM sites it is"
    " not used, and no file is written"
)


def encryption_refusal(name: str) -> str | None:
    """Return why this is no file for an encryption certificate; null: it may be one."""
    if name.lower().endswith(".pfx") and len(name) > len(".pfx"):
        return None
    return f"the encryption certificate's file must end in .pfx, and {name!r} does not"


def node_refusal(
    view: VmmServiceView, this_node: str, version: str, friendly_name: str
) -> str | None:
    """Return why this node does not register; null: it may.

    A cluster is registered once, on its active node, under the role's name.
    """
    other = nodes_of_other_version(_others(view, this_node), version)
    if other:
        return (
            f"all nodes must have provider {version}, but {other};"
            " run set-up of this version there first"
        )
    if view.cluster_role is None:
        return None
    if this_node != view.active_node:
        return (
            f"{this_node} is a passive node of {view.cluster_role}: a cluster is registered once,"
            f" on its active node {view.active_node}; here only set-up is run"
        )
    if friendly_name.lower() != view.cluster_role.lower():
        return (
            f"VMM is a cluster: it is registered under the name of its role,"
            f" {view.cluster_role}, not as {friendly_name}"
        )
    return None


def _others(view: VmmServiceView, this_node: str) -> tuple[NodeView, ...]:
    return tuple(node for node in view.nodes if node.fqdn != this_node)
