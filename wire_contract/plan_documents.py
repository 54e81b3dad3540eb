"""A recovery plan as a document: exported from one vault, kept in a repository, imported elsewhere.

It names servers and machines as people do; the vault that takes it in finds its own ids. Written as
JSON or YAML (docs/recovery-plans.md); the models are the published JSON Schema
(`site-recovery plan schema`).
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wire_contract.scripts import PATH_CHARACTERS_MAX, SECONDS_DEFAULT, SECONDS_MAX
from wire_contract.vocabulary import Direction, Side

FORMAT: Final = "site-recovery-plan/1"
DOCUMENT_BYTES_MAX: Final = 2_097_152
"""A document with five thousand machines of long names stays below it."""

GROUPS_MAX: Final = 200
MACHINES_MAX: Final = 10_000
ACTIONS_MAX: Final = 50
ACTION_NAME_CHARACTERS_MAX: Final = 128
NAME_CHARACTERS_MAX: Final = 512
WORDS_CHARACTERS_MAX: Final = 4_096

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Kind = Literal[
    "PlannedFailover",
    "UnplannedFailover",
    "TestFailover",
    "TestFailoverCleanup",
    "Commit",
    "CancelFailover",
    "ReverseReplicate",
]


class DocumentPart(BaseModel):
    """A part of a document: closed, so that a misspelt name is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScriptPart(DocumentPart):
    """A script of a server's VMM library; `side` is the end of the plan that runs it."""

    path: str = Field(min_length=1, max_length=PATH_CHARACTERS_MAX)
    side: Side
    seconds: int = Field(default=SECONDS_DEFAULT, ge=1, le=SECONDS_MAX)
    undo_path: str = Field(
        default="", max_length=PATH_CHARACTERS_MAX, description="Runs when it is taken back."
    )


class ActionPart(DocumentPart):
    """Something a person does (`manual` says what) or a script, in these kinds of operation."""

    name: str = Field(min_length=1, max_length=ACTION_NAME_CHARACTERS_MAX)
    kinds: tuple[Kind, ...] = Field(min_length=1, max_length=20)
    directions: tuple[Direction, ...] = Field(
        default=(), max_length=2, description="None: in both directions."
    )
    manual: str = Field(default="", max_length=WORDS_CHARACTERS_MAX)
    script: ScriptPart | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.script is None) == (not self.manual):
            raise ValueError("an action has either 'manual', in words, or a 'script'")
        return self


class GroupPart(DocumentPart):
    """A group; only a Boot group has machines: names, or ids where two share a name."""

    type: Literal["Shutdown", "Failover", "Boot"] = "Boot"
    machines: tuple[Name, ...] = Field(default=(), max_length=MACHINES_MAX)
    before: tuple[ActionPart, ...] = Field(default=(), max_length=ACTIONS_MAX)
    after: tuple[ActionPart, ...] = Field(default=(), max_length=ACTIONS_MAX)


class PlanDocument(DocumentPart):
    """A plan between two servers; its groups are worked on in their order."""

    format: Literal["site-recovery-plan/1"] = FORMAT
    name: Name
    primary: Name
    recovery: Name
    groups: tuple[GroupPart, ...] = Field(max_length=GROUPS_MAX)
