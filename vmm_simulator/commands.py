"""From a verb request to its effect, once: checks, faults, locks and the durable ledger.

Order (docs/wire-contract.md): epoch, fence and deadline are checked before any effect; a higher
epoch and fence are durable before it; the ledger line begins before it and ends after it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import structlog
from blake3 import blake3
from pydantic import ValidationError

from vmm_simulator.faults import FaultSet
from vmm_simulator.journal import SUCCEEDED, Effect, Journal
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.verbs.arguments import CreateTestMachine, KeepCopy, PlaceReplica
from vmm_simulator.verbs.call import Call, Fabric, Result, StepBreakError
from vmm_simulator.verbs.registry import TARGET_MAY_BE_MISSING, VERBS, VerbRules
from vmm_simulator.vmm.transitions import with_epoch
from wire_contract.faults import Fault
from wire_contract.vmm_interface import Command, VerbAnswer, VerbRequest
from wire_contract.vocabulary import CLOUD_VERBS, SERVER_VERBS, FaultKind, Verb

IN_FLIGHT_MAX: Final = 2048
"""Commands that may be under way at a time; more are told to come back."""

log = structlog.get_logger(__name__)


class ConnectionVanishesError(Exception):
    """A fault: the connection is to be dropped without an answer."""


class Commands:
    """Does verbs; two calls of one command are one effect, verbs of one machine take turns."""

    def __init__(
        self, fabric: Fabric, journal: Journal, faults: FaultSet, group: asyncio.TaskGroup
    ) -> None:
        self._fabric = fabric
        self._journal = journal
        self._faults = faults
        self._group = group
        self._under_way: dict[str, tuple[str, asyncio.Task[VerbAnswer | Exception]]] = {}
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def run(self, verb: Verb, target: str, request: VerbRequest) -> VerbAnswer:
        """Return the verb's answer; RefusedError, or ConnectionVanishesError by a fault.

        The effect belongs to the site, not to the caller: it goes on when the caller is gone.
        """
        command_id = request.command.id
        digest = _digest(verb, target, request)
        present = self._under_way.get(command_id)
        if present is None:
            if len(self._under_way) >= IN_FLIGHT_MAX:
                raise RefusedError(Code.NOT_AVAILABLE, "too many commands are under way")
            work = self._group.create_task(
                self._settle(verb, target, request, digest), name=f"command {command_id}"
            )
            present = (digest, work)
            self._under_way[command_id] = present
        if present[0] != digest:
            raise _reused(command_id)
        outcome = await asyncio.shield(present[1])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _settle(
        self, verb: Verb, target: str, request: VerbRequest, digest: str
    ) -> VerbAnswer | Exception:
        """Run to the end; an expected error is a result, so that all callers who joined get it."""
        try:
            return await self._run(verb, target, request, digest)
        except (RefusedError, ConnectionVanishesError) as error:
            return error
        except Exception as error:
            # One verb's mistake must not end the site: the caller gets a problem, the log all.
            log.exception("verb_crashed", verb=verb, target=target, command_id=request.command.id)
            return RefusedError(Code.FAILED, f"{verb} failed: {type(error).__name__}: {error}")
        finally:
            self._under_way.pop(request.command.id, None)

    async def _run(self, verb: Verb, target: str, request: VerbRequest, digest: str) -> VerbAnswer:
        rules = VERBS[verb]
        arguments = _parse(rules, request)
        self._require_target(verb, target)
        await self._check(verb, target, request.command)
        fault = await self._faulty(verb, target)
        if fault is not None and fault.kind is FaultKind.LIE:
            return VerbAnswer()
        call = Call(
            fabric=self._fabric,
            target=target,
            command=request.command,
            arguments=arguments,
            reached=_stepper(verb, target, fault),
        )
        locked = _locked_ids(target, arguments) if rules.exclusive else ()
        async with self.holding(locked):
            # Time has gone by in the queue, and another hub may have spoken meanwhile.
            await self._check(verb, target, request.command)
            answer = await self._effect(verb, rules, call, digest)
        if fault is not None and fault.kind is FaultKind.VANISH_AFTER:
            raise ConnectionVanishesError
        return answer

    async def _effect(
        self, verb: Verb, rules: VerbRules, call: Call[Any], digest: str
    ) -> VerbAnswer:
        command = call.command
        effect = await self._journal.effect(command.id)
        if effect is not None:
            if effect.digest != digest:
                raise _reused(command.id)
            if effect.succeeded and await self._still_holds(rules, call, effect):
                return VerbAnswer.model_validate_json(effect.result or "{}").model_copy(
                    update={"repeated": True}
                )
        self._require_time(command)
        rules.check(call)
        await rules.ask(call)
        await self._store_epoch(verb, rules, call)
        await self._journal.begin_effect(
            command.id,
            verb=verb.value,
            target=call.target,
            epoch=command.epoch,
            digest=digest,
            now=self._fabric.clock.now(),
        )
        result = await self._perform(rules, call)
        answer = VerbAnswer(result=result, repeated=effect is not None and effect.succeeded)
        await self._journal.finish_effect(
            command.id, SUCCEEDED, answer.model_dump_json(), self._fabric.clock.now()
        )
        log.info("effect_done", verb=verb, target=call.target, command_id=command.id)
        return answer

    async def _perform(self, rules: VerbRules, call: Call[Any]) -> Result:
        try:
            return await rules.perform(call)
        except RefusedError as refusal:
            await self._note_failure(call.command.id, f"refused {refusal.code}")
            raise
        except StepBreakError as broken:
            await self._note_failure(call.command.id, f"broken off after: {broken.step}")
            raise RefusedError(
                broken.code,
                f"the fabric failed after the step: {broken.step}",
                "ask again; the verb goes on from what holds",
            ) from broken
        except Exception as error:
            await self._note_failure(call.command.id, f"failed: {type(error).__name__}")
            raise

    async def _note_failure(self, command_id: str, outcome: str) -> None:
        await self._journal.finish_effect(command_id, outcome, None, self._fabric.clock.now())

    async def _still_holds(self, rules: VerbRules, call: Call[Any], effect: Effect) -> bool:
        """Whether a repeated command has nothing to do.

        Once something later was done to the same target, an old command's effect is history: a
        repeated `start` must not undo a later shut-down.
        """
        if not await self._journal.is_newest_effect(effect):
            return True
        return rules.holds(call)

    async def _check(self, verb: Verb, target: str, command: Command) -> None:
        """Refuse a passed deadline, a lower fence of the job, a lower epoch of the machine."""
        done = await self._journal.effect(command.id)
        if done is None or not done.succeeded:
            self._require_time(command)
        highest = await self._journal.raise_fence(_job_of(command.id), command.fence)
        if command.fence < highest:
            raise RefusedError(
                Code.LOWER_FENCE,
                f"fence {command.fence} has been passed by: {highest} was seen for this job",
            )
        machine = None if verb in CLOUD_VERBS else self._fabric.store.machines.get(target)
        if machine is not None and command.epoch < machine.epoch:
            raise RefusedError(
                Code.LOWER_EPOCH,
                f"epoch {command.epoch} is lower than the stored {machine.epoch}",
                "the item was failed over meanwhile; look at its active copy",
            )

    async def _store_epoch(self, verb: Verb, rules: VerbRules, call: Call[Any]) -> None:
        """Make a higher epoch durable before anything is done under it, and who holds it."""
        target, epoch = call.target, call.command.epoch
        machine = None if verb in CLOUD_VERBS else self._fabric.store.machines.get(target)
        if machine is not None and epoch > machine.epoch:
            stored = await self._fabric.store.change_machine(
                target, lambda each: rules.under_epoch(call, with_epoch(each, epoch))
            )
            if not stored.fenced:
                self._fabric.confirmed.add(target)

    def _require_time(self, command: Command) -> None:
        if self._fabric.clock.now() >= command.deadline:
            raise RefusedError(
                Code.DEADLINE_PASSED,
                f"the command's deadline {command.deadline.isoformat()} has passed",
            )

    def _require_target(self, verb: Verb, target: str) -> None:
        if verb in CLOUD_VERBS:
            self._fabric.store.cloud(target)
        elif verb in SERVER_VERBS:
            if target != self._fabric.store.fabric.vmm_id:
                raise unknown("VMM server", target)
        elif verb not in TARGET_MAY_BE_MISSING:
            self._fabric.store.machine(target)

    async def _faulty(self, verb: Verb, target: str) -> Fault | None:
        """Do what the fault set asks for before the effect; what is left to do afterwards."""
        machine = None if verb in CLOUD_VERBS else self._fabric.store.machines.get(target)
        identities = {target} if machine is None else {target, machine.hyperv_id}
        while (taken := self._faults.take(verb, identities)) is not None:
            fault = taken.fault
            log.warning("fault_applied", verb=verb, target=target, kind=fault.kind)
            match fault.kind:
                case FaultKind.HOLD:
                    await taken.held()
                    continue
                case FaultKind.SLOW:
                    await asyncio.sleep(fault.seconds or 0.0)
                    return None
                case FaultKind.REFUSE:
                    raise RefusedError(fault.code or Code.FAILED, f"{verb}: refused by a fault")
                case FaultKind.VANISH_BEFORE:
                    raise ConnectionVanishesError
                case _:
                    return fault
        return None

    @contextlib.asynccontextmanager
    async def holding(self, identities: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of these machines, taken in one order so that nobody waits in a ring."""
        async with contextlib.AsyncExitStack() as stack:
            for identity in sorted(set(identities)):
                await stack.enter_async_context(self._lock(identity))
            yield

    @contextlib.asynccontextmanager
    async def _lock(self, identity: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(identity, (asyncio.Lock(), 0))
        self._locks[identity] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(identity)
            if users > 1:
                self._locks[identity] = (lock, users - 1)


def _stepper(verb: Verb, target: str, fault: Fault | None) -> Callable[[str], None]:
    def reached(step: str) -> None:
        log.debug("step_reached", verb=verb, target=target, step=step)
        if fault is not None and fault.kind is FaultKind.PARTIAL:
            raise StepBreakError(step, fault.code or Code.FAILED)

    return reached


def _parse(rules: VerbRules, request: VerbRequest) -> Any:
    try:
        # Through JSON text: what came as JSON is read by JSON's rules (tuples are arrays).
        return rules.arguments.model_validate_json(json.dumps(request.arguments))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "arguments"
        raise bad_arguments(f"{key}: {first['msg']}") from error


def _digest(verb: Verb, target: str, request: VerbRequest) -> str:
    text = json.dumps([verb.value, target, request.arguments], sort_keys=True)
    return blake3(text.encode()).hexdigest()


def _job_of(command_id: str) -> str:
    """Return the job of a command id (`job/task/attempt`); fences are compared per job."""
    return command_id.rsplit("/", 2)[0]


def _locked_ids(target: str, arguments: Any) -> tuple[str, ...]:
    """Return whose turn it is: the target's, and that of what the verb looks at beside it."""
    match arguments:
        case CreateTestMachine():
            # It is copied from a replica: neither may change meanwhile.
            return (target, arguments.replica_machine_id)
        case KeepCopy():
            return (target, arguments.machine_id)
        case PlaceReplica():
            # Two that are placed at once would both find the same host the emptiest.
            return (target, f"placement {arguments.cloud_id}")
        case _:
            return (target,)


def _reused(command_id: str) -> RefusedError:
    return RefusedError(
        Code.COMMAND_REUSED,
        f"command {command_id} was given before with another verb, target or other arguments",
        "give every attempt an id of its own",
    )
