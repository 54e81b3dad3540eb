"""Bodies of requests for network and storage mappings; `bodies` says how they are read."""

from service_hub.arm.bodies import Input


class NetworkMappingDetails(Input):
    """Which kind of mapping it is."""

    instance_type: str | None = None


class NetworkMappingProperties(Input):
    """The network to map to; a change may leave it out."""

    recovery_fabric_name: str | None = None
    recovery_network_id: str | None = None
    fabric_specific_details: NetworkMappingDetails | None = None


class NetworkMappingInput(Input):
    """PUT or PATCH of a network mapping."""

    properties: NetworkMappingProperties


class StorageMappingProperties(Input):
    """The classification to map to."""

    target_storage_classification_id: str


class StorageMappingInput(Input):
    """PUT of a storage mapping."""

    properties: StorageMappingProperties
