"""What one Hyper-V host asks another about a relationship that both have: state, run state, import.

`GET` its `state`: how the other end is (split-brain guard, behaviour 1.3; end of an import).
`PUT` its `import-awaited`: hold changes until the exported copy is brought (1.2).
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import Field

from wire_contract.model import WireModel
from wire_contract.paths import REPLICA_OPERATION
from wire_contract.vocabulary import ReplicationMode, ReplicationState

_IDENTITY: Final = r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})"


class Asked(StrEnum):
    """What is asked, as it stands in the path."""

    STATE = "state"
    AWAIT_IMPORT = "import-awaited"


def _pattern(asked: Asked) -> re.Pattern[str]:
    return re.compile(REPLICA_OPERATION.format(relationship_id=_IDENTITY, operation=asked.value))


_QUESTIONS: Final = {
    "GET": (Asked.STATE, _pattern(Asked.STATE)),
    "PUT": (Asked.AWAIT_IMPORT, _pattern(Asked.AWAIT_IMPORT)),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one relationship."""

    asked: Asked
    relationship_id: str


class OtherEnd(WireModel):
    """How the asked end of a relationship is now."""

    machine_id: str = Field(max_length=128)
    mode: ReplicationMode
    state: ReplicationState
    running: bool
    epoch: int = Field(ge=0)
    last_cut: int = Field(ge=0)


def question(method: str, path: str) -> Question | None:
    """Return what a request asks; None when it is none of these."""
    asked, pattern = _QUESTIONS.get(method, (None, None))
    if asked is None or pattern is None:
        return None
    match = pattern.fullmatch(path)
    return None if match is None else Question(asked, match[1])


def state_path(relationship_id: str) -> str:
    """Return where the state of a relationship's other end is read."""
    return REPLICA_OPERATION.format(relationship_id=relationship_id, operation=Asked.STATE.value)


def import_path(relationship_id: str) -> str:
    """Return where a replica's host is told to await an import."""
    return REPLICA_OPERATION.format(
        relationship_id=relationship_id, operation=Asked.AWAIT_IMPORT.value
    )
