"""Settings of clouds: policies, pairs and what remains of them (recorded.md, 9)."""

from typing import Final

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

PAIR_CLOUDS: Final = Scenario(
    *job_names("pair_clouds"),
    (
        TaskSpec(
            *task_names("CloudPairingWfPreflightChecksTask"),
        ),
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
        TaskSpec(
            *task_names("CloudPairingWfPairCloudsTask"),
            BOTH,
            Verb.PAIR_CLOUD,
            Target.CLOUD,
            undo=Verb.UNPAIR_CLOUD,
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
