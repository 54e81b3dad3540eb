"""What differs where a first copy travels on a medium (seed, step 4.12; behaviour.md, 1.2).

The tasks keep their recorded names. The primary waits for the replica, which waits for the medium:
the copy is therefore brought in by the first completion, and the second waits for both ends.
"""

from dataclasses import replace
from typing import Final

from service_hub.domain.protection import Operation
from service_hub.domain.scenarios.item_life import COMPLETE_PRIMARY, COMPLETE_RECOVERY, ENABLE
from service_hub.domain.scenarios.specs import (
    BOTH,
    RECOVERY,
    TRANSIENT_CODES,
    RetryPolicy,
)
from wire_contract.vocabulary import Verb

_NOT_THERE_YET: Final = frozenset({32773, 90004})
"""The folder holds no whole copy (yet); the fabric could not read it until the deadline."""

IMPORT_RETRY: Final = RetryPolicy(
    attempts_max=2016, pause_seconds=600, codes=TRANSIENT_CODES | _NOT_THERE_YET
)
"""A medium travels for days: the folder is looked at every ten minutes for two weeks."""

EXPORT_COPY: Final = (
    replace(
        ENABLE.task("StartInitialReplicationTask"),
        verb=Verb.EXPORT_INITIAL_REPLICATION,
    ),
)
"""Enabling: the copy is written to the export path."""

IMPORT_COPY: Final = (
    replace(
        COMPLETE_PRIMARY.task("CompleteInitialReplicationTask"),
        sides=RECOVERY,
        verb=Verb.IMPORT_INITIAL_REPLICATION,
        retry=IMPORT_RETRY,
    ),
)
"""The first completion: the copy is brought in from the import path."""

COMPLETE_BOTH: Final = (
    replace(COMPLETE_RECOVERY.task("CompleteInitialReplicationTask"), sides=BOTH),
)
"""The second completion: the primary learns a cycle later that its replica has the copy."""

OFFLINE_SPECS: Final = {
    Operation.ENABLE: EXPORT_COPY,
    Operation.COMPLETE_PRIMARY: IMPORT_COPY,
    Operation.COMPLETE_RECOVERY: COMPLETE_BOTH,
}
"""The specs of its own that a job has, by operation."""
