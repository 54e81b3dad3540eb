"""What the hub orders of a provider's scripts (docs/recovery-plans.md): one of a recovery plan.

The arguments of a `run_script` assignment; the context goes on to the script as it is, completed
with what the fabric knows of the machines.
"""

import hashlib
import json
from typing import Final

from pydantic import Field

from wire_contract.model import WireModel

PATH_CHARACTERS_MAX: Final = 1024
SECONDS_DEFAULT: Final = 600
"""Time limit of a script that names none (behaviour.md, 2.7)."""

SECONDS_MAX: Final = 86_400
MACHINES_MAX: Final = 10_000


class ScriptMachine(WireModel):
    """A machine that the script is about: `machine_id` is that of its copy on this server."""

    item: str = Field(max_length=256)
    name: str = Field(max_length=1024)
    machine_id: str | None = Field(default=None, max_length=256)


class ScriptContext(WireModel):
    """Why a script runs: plan, group, when, kind of operation, direction, machines of the group.

    `kind` is the operation's name (PlannedFailover, TestFailoverCleanup ...), `side` the end that
    runs the script, `when` before or after the group.
    """

    plan_id: str = Field(max_length=256)
    plan_name: str = Field(max_length=1024)
    group: str = Field(max_length=1024)
    when: str = Field(max_length=64)
    action: str = Field(max_length=1024)
    kind: str = Field(max_length=64)
    direction: str = Field(max_length=64)
    side: str = Field(max_length=64)
    job_id: str = Field(max_length=256)
    machines: tuple[ScriptMachine, ...] = Field(default=(), max_length=MACHINES_MAX)


class ScriptOrder(WireModel):
    """Arguments of `run_script`: `path` below a library share, or beginning with the share's."""

    path: str = Field(min_length=1, max_length=PATH_CHARACTERS_MAX)
    seconds: int = Field(default=SECONDS_DEFAULT, ge=1, le=SECONDS_MAX)
    context: ScriptContext


def script_digest(order: ScriptOrder) -> str:
    """Return what an operator signs of a script: all that is ordered, but for its job's id.

    The machines are bound by their items; which copy stands for one on a server the hub says.
    """
    context = order.context
    told = [
        context.plan_id,
        context.kind,
        context.direction,
        context.side,
        context.group,
        context.when,
        context.action,
        order.path,
        order.seconds,
        sorted(each.item.lower() for each in context.machines),
    ]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def signature_key(digest: str) -> str:
    """Return under which name a plan's request has the signature of a script."""
    return f"script/{digest}"
