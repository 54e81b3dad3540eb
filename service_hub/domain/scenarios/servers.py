"""Jobs of a server: registered, refreshed, deleted (recorded.md, 12)."""

from typing import Final

from service_hub.domain.scenarios.specs import (
    PRIMARY,
    Scenario,
    Target,
    TaskSpec,
)
from wire_contract.vocabulary import Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

INVENTORY_SECONDS_MAX: Final = 300
"""Longest that a server which was asked for its inventory is waited for."""

CREATE_SITE: Final = Scenario(
    *job_names("create_site"),
    # Recorded are the two jobs of a registration, not their tasks: those names are ours.
    (TaskSpec(*task_names("CreateSiteTask")),),
)

REGISTER_PROVIDER: Final = Scenario(
    *job_names("register_provider"),
    (TaskSpec(*task_names("RegisterDraTask")),),
)

UNREGISTER_SERVER: Final = Scenario(
    *job_names("unregister_server"),
    (
        TaskSpec(
            *task_names("UnregisterFabricPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("CleanupFabricTask"),
            PRIMARY,
            Verb.CLEAN_UP,
            Target.SERVER,
            no_way_back=True,
        ),
        TaskSpec(*task_names("UnregisterFabricTask")),
    ),
)

REFRESH_SERVER: Final = Scenario(
    *job_names("refresh_server"),
    (
        TaskSpec(
            *task_names("RefreshProviderPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("RefreshProviderTask"),
            PRIMARY,
            seconds=INVENTORY_SECONDS_MAX,
            asks_inventory=True,
        ),
    ),
)
