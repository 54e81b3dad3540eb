"""Carries commands out: deadline, verb, read back, outcome; nothing else is decided here."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog
from pydantic import JsonValue

from provider_agent.config import TaskLimits
from provider_agent.domain.inbox import CommandState, Work
from provider_agent.domain.postconditions import may_be_gone, unmet
from provider_agent.domain.read_back import Expected, ReadBack
from provider_agent.domain.retries import FABRIC, seconds_left
from provider_agent.fabric.driver import (
    FabricAnswerError,
    FabricBusyError,
    FabricDriver,
    FabricRefusedError,
    FabricUnknownTargetError,
    FabricUnreachableError,
)
from provider_agent.host_certificates import HostCertificates, issued_thumbprints
from provider_agent.journal import Journal
from provider_agent.operator_orders import OperatorOrders
from provider_agent.outcomes import (
    AttemptError,
    ErrorCode,
    failed,
    observed_facts,
    of_problem,
    own_error,
    succeeded,
)
from provider_agent.scripts import Scripts, interrupted
from provider_agent.session import Session
from provider_agent.wake import Wake
from service_shell.clock import Clock
from service_shell.failpoints import NONE, FaultPoints
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError, TaskOutcome, TaskProgress
from wire_contract.vmm_interface import Command, VerbAnswer
from wire_contract.vocabulary import AGENT_VERBS, CLOUD_VERBS, HOST_VERBS, SERVER_VERBS, Verb

READ_BACK_POLL_SECONDS: Final = 0.2
_HOSTS_LANE: Final = "hosts of the server"

log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Signals:
    """`work`: a command may have become startable. `reports`: the outbox has something new.

    `leaving`: this server was cleaned up, so that its registration is to be forgotten.
    """

    work: Wake
    reports: Wake
    leaving: Wake


class Executor:
    """Runs what is unfinished in the journal: one command per item at a time, items in parallel."""

    def __init__(
        self,
        driver: FabricDriver,
        journal: Journal,
        session: Session,
        certificates: HostCertificates,
        clock: Clock,
        *,
        orders: OperatorOrders,
        scripts: Scripts,
        signals: Signals,
        limits: TaskLimits,
        faults: FaultPoints = NONE,
    ) -> None:
        self._faults = faults
        self._driver = driver
        self._journal = journal
        self._session = session
        self._certificates = certificates
        self._orders = orders
        self._scripts = scripts
        self._clock = clock
        self._signals = signals
        self._limits = limits
        self._busy: set[str] = set()
        self._waiting: list[Work] = []

    async def run(self) -> None:
        """Execute for ever; a command that was interrupted by a restart is executed again."""
        # Only after the first session: what has been withdrawn meanwhile is then on its way.
        await self._session.confirmed.wait()
        async with asyncio.TaskGroup() as group:
            last = 0
            while True:
                for work in await self._journal.unfinished(after=last):
                    self._waiting.append(work)
                    last = work.place
                for work in self._startable():
                    self._busy.add(_lane(work.assignment))
                    group.create_task(self._carry_out(work))
                await self._signals.work.wait()

    def _startable(self) -> list[Work]:
        """Return the first command of each free item, as many as the limit leaves room for.

        One that was withdrawn while it waited is among them: the journal does not let it begin.
        """
        room = self._limits.parallel_max - len(self._busy)
        taken = set(self._busy)
        chosen: list[Work] = []
        waiting: list[Work] = []
        for number, work in enumerate(self._waiting):
            if len(chosen) >= room:
                waiting += self._waiting[number:]
                break
            lane = _lane(work.assignment)
            (waiting if lane in taken else chosen).append(work)
            taken.add(lane)
        self._waiting = waiting
        return chosen

    async def _carry_out(self, work: Work) -> None:
        assignment = work.assignment
        bound = log.bind(command_id=assignment.command_id, verb=assignment.verb)
        try:
            bound.info("task_begun", target=assignment.target, again=work.state.value)
            outcome = await self._attempt(work)
            await self._faults.reach("agent.before_journal")
            if outcome is None or not await self._journal.finish(assignment.command_id, outcome):
                bound.info("task_withdrawn")
                return
            await self._faults.reach("agent.journalled")
            cause = outcome.error.message if outcome.error is not None else None
            bound.info("task_ended", succeeded=outcome.succeeded, cause=cause)
            self._signals.reports.set()
            if outcome.succeeded and assignment.verb == Verb.CLEAN_UP:
                self._signals.leaving.set()
        finally:
            self._busy.discard(_lane(assignment))
            self._signals.work.set()

    async def _attempt(self, work: Work) -> TaskOutcome | None:
        """Return the outcome, or null when the command was withdrawn before it began."""
        assignment = work.assignment
        try:
            observed = await self._perform(work)
        except AttemptError as error:
            now = self._clock.now()
            return failed(assignment, self._clock.new_id(), now, error.error, error.observed)
        except FabricRefusedError as error:
            problem = of_problem(error.problem)
            return failed(assignment, self._clock.new_id(), self._clock.now(), problem, {})
        except FabricAnswerError as error:
            answer = own_error(
                ErrorCode.FABRIC_ANSWER, f"the fabric's answer cannot be understood: {error}"
            )
            return failed(assignment, self._clock.new_id(), self._clock.now(), answer, {})
        if observed is None:
            return None
        return succeeded(assignment, self._clock.new_id(), self._clock.now(), observed)

    async def _perform(self, work: Work) -> Mapping[str, JsonValue] | None:
        if work.state is CommandState.ACCEPTED and self._left(work) <= 0:
            raise self._expired(work)
        await self._until_confirmed(work)
        if work.state is CommandState.ACCEPTED:
            # Not when it is begun again after a restart: it was ordered when it began.
            refusal = await self._insist(work, lambda _: self._orders.refusal(work.assignment))
            if refusal is not None:
                raise AttemptError(refusal)
        await self._faults.reach("agent.before_journal")
        if not await self._journal.begin(work.assignment.command_id):
            return None
        await self._faults.reach("agent.journalled")
        if work.assignment.verb in AGENT_VERBS:
            return await self._run_script(work)
        assignment = await self._complete(work)
        await self._faults.reach("agent.before_verb")
        answer = await self._call(work, assignment)
        await self._faults.reach("agent.after_verb")
        observed = await self._read_back(work, assignment, answer)
        await self._faults.reach("agent.read_back")
        return observed

    async def _run_script(self, work: Work) -> Mapping[str, JsonValue]:
        """Run a script once: what was begun before a restart is not begun again."""
        if work.state is not CommandState.ACCEPTED:
            raise interrupted(work.assignment)
        view = await self._insist(work, lambda _: self._scripts.fabric())
        if self._left(work) <= 0:
            raise self._expired(work)
        await self._faults.reach("agent.before_verb")
        observed = await self._scripts.run(work.assignment, view, self._left(work))
        await self._faults.reach("agent.after_verb")
        return observed

    async def _complete(self, work: Work) -> Assignment:
        """Return the assignment with what this side adds to it, journalled before it is used."""
        assignment = work.assignment
        if assignment.verb != Verb.CONFIGURE_HOSTS or "certificates" in assignment.arguments:
            return assignment
        requests = await self._insist(work, lambda _: self._driver.host_requests(assignment.target))
        certificates = await self._certificates.issue(requests, work.expires_at)
        complete = assignment.model_copy(
            update={"arguments": {**assignment.arguments, "certificates": certificates}}
        )
        await self._journal.amend(complete)
        return complete

    async def _call(self, work: Work, assignment: Assignment) -> VerbAnswer:
        command = Command(
            id=assignment.command_id,
            fence=assignment.fence,
            epoch=assignment.epoch,
            deadline=assignment.deadline,
        )

        async def call(seconds: float) -> VerbAnswer:
            await self._until_confirmed(work)
            # The last look at the clock before the fabric is asked (design: channel, deadlines).
            if self._left(work) <= 0:
                raise self._expired(work)
            verb = Verb(assignment.verb)
            try:
                return await self._driver.perform(
                    verb, assignment.target, command, assignment.arguments, seconds
                )
            except FabricUnknownTargetError:
                if not may_be_gone(verb, assignment.arguments):
                    raise
                # An earlier attempt or somebody else has removed it; the read-back proves that.
                return VerbAnswer()

        return await self._insist(work, call)

    async def _insist(self, work: Work, action: Callable[[float], Awaitable[ResultT]]) -> ResultT:
        """Repeat an action on a fabric that is away or busy, until the command's deadline."""
        failures = 0
        while True:
            try:
                return await action(self._left(work) + self._limits.answer_grace_seconds)
            except (FabricUnreachableError, FabricBusyError) as error:
                failures += 1
                if isinstance(error, FabricUnreachableError):
                    self._session.fabric_lost(str(error))
                if failures == 1:
                    await self._say_waiting(work, str(error))
                pause = self._clock.jitter(0, FABRIC.bound_seconds(failures))
                if self._left(work) <= pause:
                    raise AttemptError(_unreachable(error)) from error
            await asyncio.sleep(pause)

    async def _read_back(
        self, work: Work, assignment: Assignment, answer: VerbAnswer
    ) -> Mapping[str, JsonValue]:
        """Return what proves the success, or raise: only what is read back counts."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.read_back_seconds
        thumbprints = issued_thumbprints(assignment)
        while True:
            nonce = self._clock.new_nonce()
            seen = await self._insist(work, partial(self._see, assignment, nonce))
            expected = Expected(
                Verb(assignment.verb),
                assignment.target,
                epoch=assignment.epoch,
                arguments=assignment.arguments,
                result=answer.result,
                nonce=nonce,
                thumbprints=thumbprints,
            )
            observed = observed_facts(answer.result, seen)
            reason = unmet(expected, seen)
            if reason is None:
                return observed
            if loop.time() >= until:
                raise AttemptError(
                    own_error(
                        ErrorCode.POST_CONDITION,
                        f"the fabric answered ok but the post-condition does not hold: {reason}",
                        recommended_action="look at the machine on the VMM server, then try again",
                    ),
                    observed,
                )
            await asyncio.sleep(READ_BACK_POLL_SECONDS)

    async def _see(self, assignment: Assignment, nonce: str, _: float) -> ReadBack:
        if assignment.verb in SERVER_VERBS:
            return ReadBack(inventory=await self._driver.inventory())
        if assignment.verb not in CLOUD_VERBS:
            return ReadBack(machine=await self._driver.machine(assignment.target, nonce))
        inventory = await self._driver.inventory()
        cloud = await self._driver.cloud(assignment.target)
        names = cloud.host_fqdns if cloud is not None else ()
        hosts = tuple(host for host in inventory.hosts if host.fqdn in names)
        machines = tuple(each for each in inventory.machines if each.cloud_id == assignment.target)
        return ReadBack(cloud=cloud, hosts=hosts, machines=machines)

    async def _until_confirmed(self, work: Work) -> None:
        """Wait until the fabric knows the epochs; bounded by the command's deadline."""
        if self._session.confirmed.is_set():
            return
        try:
            async with asyncio.timeout(self._left(work)):
                await self._session.confirmed.wait()
        except TimeoutError as error:
            raise AttemptError(
                own_error(
                    ErrorCode.FABRIC_UNREACHABLE,
                    "the fabric or the hub was away until the deadline; epochs were not confirmed",
                )
            ) from error

    async def _say_waiting(self, work: Work, cause: str) -> None:
        assignment = work.assignment
        log.warning("task_waits_for_fabric", command_id=assignment.command_id, cause=cause)
        progress = TaskProgress(
            report_id=self._clock.new_id(),
            job=assignment.job,
            task=assignment.task,
            attempt=assignment.attempt,
            percent=None,
            detail=f"{cause[:300]}; trying again until {work.expires_at:%F %T} UTC",
        )
        await self._journal.put((progress, f"progress/{assignment.command_id}"))
        self._signals.reports.set()

    def _left(self, work: Work) -> float:
        return seconds_left(self._clock.now(), work.expires_at)

    def _expired(self, work: Work) -> AttemptError:
        message = f"the deadline {work.expires_at:%F %T} UTC passed before the verb was begun"
        if work.state is not CommandState.ACCEPTED:
            message += " again; before a restart of the provider it may have had its effect"
        return AttemptError(own_error(ErrorCode.EXPIRED, message))


def _lane(assignment: Assignment) -> str:
    """Return what must not be worked on twice at a time: the item, or the cloud.

    Clouds share hosts, and a host has one certificate: what another cloud's task puts there
    between a verb and its read-back would make that fail. So such tasks share one lane.
    """
    if assignment.verb in HOST_VERBS:
        return _HOSTS_LANE
    return assignment.item or assignment.target


def _unreachable(error: Exception) -> ProviderError:
    return own_error(
        ErrorCode.FABRIC_UNREACHABLE,
        f"the fabric did not do it before the deadline: {error}",
        "the VMM server is down, restarts or is overloaded; the verb may have had its effect",
        "start the VMM server, then try again",
    )
