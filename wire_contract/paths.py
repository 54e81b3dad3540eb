"""Paths that two programs share: provider API, VMM interface, host to host."""

from typing import Final

# Provider API of the hub (provider port, mutual TLS).
EST_CACERTS: Final = "/.well-known/est/cacerts"
EST_SIMPLEENROLL: Final = "/.well-known/est/simpleenroll"
EST_SIMPLEREENROLL: Final = "/.well-known/est/simplereenroll"
VAULT_HEADER: Final = "Site-Recovery-Vault"
"""Of an enrolment: the vault's id in the credentials file, so that a wrong file is noticed."""
TOKEN: Final = "/provider/v1/token"  # noqa: S105 -- a path, not a secret
REGISTRATION: Final = "/provider/v1/registration"
UNREGISTRATION: Final = "/provider/v1/unregistration"
SESSION: Final = "/provider/v1/session"
HEARTBEAT: Final = "/provider/v1/heartbeat"
EVENTS: Final = "/provider/v1/events"
REPORTS: Final = "/provider/v1/reports"
INVENTORY: Final = "/provider/v1/inventory"
HOST_CERTIFICATES: Final = "/provider/v1/host-certificates"
ECHO: Final = "/provider/v1/echo"
PROVIDER_HEALTH: Final = "/health"
MQTT_WEBSOCKET: Final = "/mqtt"
"""MQTT 5 over WebSocket, for sites that are let out on the HTTPS port alone."""

MQTT_SUBPROTOCOL: Final = "mqtt"
"""Subprotocol of that WebSocket (MQTT 5.0, 6)."""

# VMM interface (agent to VMM server).
VMM_INVENTORY: Final = "/vmm/v1/inventory"
VMM_FABRIC: Final = "/vmm/v1/fabric"
VMM_JOBS: Final = "/vmm/v1/jobs"
VMM_CHANGES: Final = "/vmm/v1/changes"
VMM_MACHINES: Final = "/vmm/v1/machines"
VMM_MACHINE: Final = "/vmm/v1/machines/{machine_id}"
VMM_MACHINE_VERB: Final = "/vmm/v1/machines/{machine_id}/{verb}"
VMM_CLOUD: Final = "/vmm/v1/clouds/{cloud_id}"
VMM_CLOUD_VERB: Final = "/vmm/v1/clouds/{cloud_id}/{verb}"
VMM_SERVER_VERB: Final = "/vmm/v1/servers/{vmm_id}/{verb}"
VMM_HOST_REQUESTS: Final = "/vmm/v1/clouds/{cloud_id}/host-certificate-requests"
VMM_CLOUD_SYNCHRONIZATION: Final = "/vmm/v1/clouds/{cloud_id}/synchronization"
VMM_HUB_CONTACT: Final = "/vmm/v1/hub-contact"
VMM_SERVICE: Final = "/vmm/v1/service"
VMM_NODE_PROVIDER: Final = "/vmm/v1/service/nodes/{node}/provider"
VMM_RUN_AS_ACCOUNTS: Final = "/vmm/v1/run-as-accounts"
VMM_RUN_AS_ACCOUNT: Final = "/vmm/v1/run-as-accounts/{name}"
VMM_RUN_AS_CREDENTIAL: Final = "/vmm/v1/run-as-accounts/{name}/credential"

# Hyper-V host to Hyper-V host (replication port, mutual TLS).
REPLICA_RELATIONSHIP: Final = "/replica/v1/relationships/{relationship_id}"
REPLICA_OPERATION: Final = "/replica/v1/relationships/{relationship_id}/{operation}"
REPLICA_TRANSFER: Final = "/replica/v1/relationships/{relationship_id}/transfers/{transfer_id}"
REPLICA_DIGESTS: Final = "/replica/v1/relationships/{relationship_id}/digests"
