"""Settings of clouds: policies, pairs and what remains of them (recorded.md, 9)."""

from dataclasses import replace
from typing import Final

from service_hub.domain.scenarios.servers import INVENTORY_SECONDS_MAX
from service_hub.domain.scenarios.specs import (
    BOTH,
    PRIMARY,
    Scenario,
    Target,
    TaskSpec,
)
from wire_contract.vocabulary import Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

NO_CERTIFICATES: Final = "no_certificates"
"""The flag of a pair whose hosts prove themselves by tickets (seed, step 4.10)."""

_PREPARE: Final = (
    TaskSpec(*task_names("CloudPairingWfPreflightChecksTask")),
    TaskSpec(
        *task_names("CloudPairingWfPrepareSiteTask"),
        BOTH,
        Verb.CONFIGURE_HOSTS,
        Target.CLOUD,
        skipped_if=NO_CERTIFICATES,
    ),
    TaskSpec(
        *task_names("CloudPairingWfPrepareCloudForPairingTask"),
        BOTH,
        Verb.PREPARE_CLOUD,
        Target.CLOUD,
    ),
)

PAIR_CLOUDS: Final = Scenario(
    *job_names("pair_clouds"),
    (
        *_PREPARE,
        TaskSpec(
            *task_names("CloudPairingWfPairCloudsTask"),
            BOTH,
            Verb.PAIR_CLOUD,
            Target.CLOUD,
            undo=Verb.UNPAIR_CLOUD,
        ),
    ),
)

CONFIGURE_HOSTS: Final = Scenario(*job_names("configure_hosts"), _PREPARE)
"""Hosts that were added to a cloud of a pair: its preparation once more (behaviour.md, 6)."""

NOT_PAIRED: Final = "not_paired"
"""The flag of a change of a policy that no clouds are paired under: it is stored, no more."""

_CHECK_PAIR, _SITE, _CLOUD = _PREPARE

UPDATE_POLICY: Final = Scenario(
    *job_names("update_policy"),
    (
        TaskSpec(*task_names("UpdateProtectionProfilePreflightsCheckTask")),
        _SITE,
        replace(_CLOUD, skipped_if=NOT_PAIRED),
        TaskSpec(
            *task_names("UpdateReplicationSettingsTask"),
            BOTH,
            Verb.UPDATE_REPLICATION,
            Target.CLOUD,
            skipped_if=NOT_PAIRED,
        ),
    ),
)
"""Hosts learn port and authentication first, then what replicates gets its settings."""

STILL_PAIRED: Final = "still_paired"
"""The flag of a removal whose clouds stay paired under a policy of another kind."""

MAPPING_REMOVAL_TASK: Final = "CloudUnpairingWfCleanupCloudsTask"

UNPAIR_CLOUDS: Final = Scenario(
    *job_names("unpair_clouds"),
    (
        TaskSpec(*task_names("CloudUnpairingWfPreflightChecksTask")),
        TaskSpec(
            *task_names("CloudUnpairingWfUnpairCloudsTask"),
            BOTH,
            Verb.UNPAIR_CLOUD,
            Target.CLOUD,
            no_way_back=True,
            skipped_if=STILL_PAIRED,
        ),
        # The vault's part: nothing is left that could be asked for again.
        TaskSpec(*task_names(MAPPING_REMOVAL_TASK)),
        # Both sites say what they have now; who cannot is looked at when it is heard of again.
        TaskSpec(
            *task_names("CloudUnpairingWfCleanupSiteTask"),
            BOTH,
            seconds=INVENTORY_SECONDS_MAX,
            asks_inventory=True,
            go_on_after_failure=True,
            skipped_if=STILL_PAIRED,
        ),
    ),
)

CREATE_POLICY: Final = Scenario(
    *job_names("create_policy"),
    (
        TaskSpec(
            *task_names("AddProtectionProfilePreflightsCheckTask"),
        ),
        TaskSpec(
            *task_names("AddProtectionProfileTask"),
        ),
    ),
)

POLICY_REMOVAL_TASK: Final = "RemoveProtectionProfileTask"

DELETE_POLICY: Final = Scenario(
    *job_names("delete_policy"),
    (
        TaskSpec(*task_names("RemoveProtectionProfilePreflightsCheckTask")),
        TaskSpec(*task_names(POLICY_REMOVAL_TASK)),
    ),
)

TIDY_PARTNER: Final = Scenario(
    *job_names("tidy_partner"),
    (
        TaskSpec(
            *task_names("CloudUnPairingCleanupTask"),
            PRIMARY,
            Verb.UNPAIR_CLOUD,
            Target.CLOUD,
            no_way_back=True,
        ),
    ),
)
