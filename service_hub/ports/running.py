"""What the engine and those around it ask of each other."""

from collections.abc import Sequence
from typing import Protocol

from service_hub.domain.jobs import Event, Job, JobError, RestartRequested
from service_hub.ports.changes import NOTHING, NOTHING_STORED, Change, NewEvent, Stored
from wire_contract.vmm_interface import MachineView


class Outbox(Protocol):
    """Told after a commit that a provider has new events."""

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Send what is there, `stored` without reading it back where it says all; never blocks."""


class JobRunner(Protocol):
    """The engine as use cases see it."""

    async def start(self, job: Job, change: Change) -> None:
        """Store the job together with the change, then let it run."""

    async def record(self, job: Job, change: Change) -> None:
        """Store a job that has ended before it began, together with the change."""

    async def start_all(self, jobs: Sequence[Job], change: Change) -> None:
        """Store all these jobs together with the change, then let them run."""

    async def feed(self, job_id: str, event: Event, change: Change = NOTHING) -> None:
        """Let a job decide on an event; returns when the decision is durable.

        Where another hub holds the job, the event is durable then and decided on there. `change`
        is stored together with it, whatever is decided; when it is stale, StaleVersionError is
        raised and nothing is stored.
        """

    async def open_work(self, provider_id: str) -> Sequence[NewEvent]:
        """Return what a provider was asked and has not answered, under the same command ids."""


class Checker(Protocol):
    """Makes the hub's own checks."""

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why the job must stop here, or None."""


class Liveness(Protocol):
    """Whether a provider's lease holds."""

    async def connected(self, provider_id: str) -> bool:
        """Return whether any authenticated contact was recent enough."""


class ObservationFollower(Protocol):
    """Told when a machine's view has come in."""

    async def observed(self, provider_id: str, machine_id: str) -> None:
        """Look whether anything waits for it."""

    async def all_observed(self, provider_id: str, machines: Sequence[MachineView]) -> None:
        """Look whether anything waits for one of these, which are all that a server has."""


class Followers(Protocol):
    """Told when a job has ended: some begin the next one.

    Told again after a kill until it has returned once: telling twice must change nothing.
    """

    def awaits(self, job: Job) -> bool:
        """Whether anything may follow from the end of this job."""

    async def job_ended(self, job: Job) -> None:
        """Look whether anything follows."""


class ChildPlanner(Protocol):
    """Makes the child jobs of a group."""

    async def child(
        self, parent: Job, task_id: str, member: str, child_id: str
    ) -> tuple[Job, Change]:
        """Return the job of one member under this id, and what is stored together with it.

        It is not begun, or has ended before it began: a refusal is a job that failed.
        """

    async def restart(
        self, parent: Job, child: Job, principal: str
    ) -> tuple[RestartRequested, Change] | None:
        """Return what restarts a job of a group, and what holds its item again.

        None where the item is not as the job left it: the job stays failed.
        """
