"""Signed events from the hub to one provider (design: channel, event envelope and stream)."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, JsonValue

from wire_contract.model import WireModel
from wire_contract.operator_signature import SIGNATURE_CHARACTERS_MAX
from wire_contract.vocabulary import EventType, Side


class EventEnvelope(WireModel):
    """Payload of the JWS; `seq` rises by one, without gaps, within `stream`."""

    id: str
    vault: str
    aud: str
    stream: str
    seq: int = Field(ge=1)
    issued_at: datetime
    expires_at: datetime
    type: EventType
    body: dict[str, JsonValue]


class Assignment(WireModel):
    """Body of an assignment: one task of one job, to be done by the addressed provider.

    `item` is the protected item (null for a task on a cloud); `target` is the machine or cloud on
    the addressed fabric; `epoch` is the item's epoch (0 where there is no item).
    `operator_signature` is the operator's header, as it came: only the provider can judge it.
    `injection` is the id of the injected event that the job comes of (null: somebody asked for it).
    """

    job: str
    task: str
    attempt: int = Field(ge=1)
    fence: int = Field(ge=1)
    item: str | None
    target: str
    epoch: int = Field(ge=0)
    verb: str
    arguments: dict[str, JsonValue]
    deadline: datetime
    operator_signature: str | None = Field(
        default=None, max_length=SIGNATURE_CHARACTERS_MAX, repr=False
    )
    injection: str | None = Field(default=None, max_length=64)

    @property
    def command_id(self) -> str:
        """Identity of the effect; it stays when the event is signed anew or changes its stream."""
        return f"{self.job}/{self.task}/{self.attempt}"


def assignment_task(task_id: str, side: Side) -> str:
    """Return the task name of an assignment: a task that works on both ends has one for each."""
    return f"{task_id}.{side.value}"


def parse_assignment_task(name: str) -> tuple[str, Side]:
    """Return task id and end of an assignment's task name; ValueError when it is not one."""
    task_id, _, side = name.rpartition(".")
    return task_id, Side(side)


class Withdrawal(WireModel):
    """Body of a withdrawal: do not begin this attempt any more; the receipt says what is true."""

    job: str
    task: str
    attempt: int = Field(ge=1)
    fence: int = Field(ge=1)


class SignedEvent(WireModel):
    """One event as it is pulled over HTTPS: the compact JWS and its place in the stream."""

    stream: str
    seq: int = Field(ge=1)
    jws: str = Field(max_length=8_388_608)


class EventPage(WireModel):
    """Answer of the pull: events in order, and the highest number that exists."""

    stream: str
    highest_seq: int = Field(ge=0)
    events: tuple[SignedEvent, ...]


class Presence(WireModel):
    """What a provider says on its presence topic; a hint, never proof."""

    state: Literal["online", "offline"]
    boot_id: str
    session: int = Field(ge=0)


JsonObject = dict[str, Any]
