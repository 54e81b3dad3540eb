"""Mappings of networks and storage, and the adapters that follow (recorded.md 10, behaviour 2.6).

The group's own spec, with its members and their count, is made with the job.
"""

from typing import Final

from service_hub.domain.scenarios.specs import RECOVERY, Scenario, TaskSpec
from wire_contract.vocabulary import Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

MAP_NETWORK: Final = Scenario(
    *job_names("map_network"),
    (
        TaskSpec(*task_names("ModifyVMNetworksPairingStatusTask")),
        TaskSpec(*task_names("VMNetworksUpdateVMNicsTask"), skipped_if="no_replica_attached"),
    ),
)

UNMAP_NETWORK: Final = Scenario(
    *job_names("unmap_network"),
    (
        TaskSpec(*task_names("ModifyVMNetworksUnPairingStatusTask")),
        TaskSpec(*task_names("VMNetworksUpdateVMNicsTaskDetach"), skipped_if="no_replica_attached"),
    ),
)

UPDATE_NETWORKS: Final = Scenario(
    *job_names("update_networks"),
    (TaskSpec(*task_names("VmNicUpdateTask"), RECOVERY, Verb.CONNECT_ADAPTERS),),
)
"""One replica's adapters brought in line with the mappings that there are."""

MAP_STORAGE: Final = Scenario(
    *job_names("map_storage"),
    (
        TaskSpec(*task_names("ClassificationPairingPreflightChecksTask")),
        TaskSpec(*task_names("ClassificationPairingTask")),
    ),
)

UNMAP_STORAGE: Final = Scenario(
    *job_names("unmap_storage"),
    (
        TaskSpec(*task_names("ClassificationUnpairingPreflightChecksTask")),
        TaskSpec(*task_names("ClassificationUnpairingTask")),
    ),
)
