"""Runs the scripts of recovery plans: found in the VMM library, run in a process of their own.

Why a script whose run was interrupted is not run again: docs/decisions/0006-scripts-run-once.md.
"""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from pydantic import JsonValue, ValidationError

from provider_agent.domain.script_paths import ScriptPathError, same_share, script_place
from provider_agent.outcomes import AttemptError, ErrorCode, own_error
from provider_agent.script_process import OUTPUT_BYTES_MAX, Ended, ScriptEnd, run_process
from wire_contract.events import Assignment
from wire_contract.scripts import ScriptContext, ScriptOrder
from wire_contract.vmm_fabric import FabricView, LibraryShareView

CONTEXT_FILE: Final = "context.json"
PREFIX: Final = "SITE_RECOVERY_"
SHOWN_CHARACTERS: Final = 600
"""How much of what a script said an error quotes."""

VARIABLE_BYTES_MAX: Final = 65_536
"""Half of what Linux takes for one variable; the context file has all machines."""

log = structlog.get_logger(__name__)


class Library(Protocol):
    """Who knows the library shares, and the addresses of machines."""

    async def fabric(self) -> FabricView:
        """Return the whole object model; FabricError."""


class Scripts:
    """Each script has a working folder of its own below `folder`, which is removed afterwards."""

    def __init__(self, library: Library, folder: Path) -> None:
        self._library = library
        self._folder = folder

    async def fabric(self) -> FabricView:
        """Return what the server shows; FabricError."""
        return await self._library.fabric()

    async def run(
        self, assignment: Assignment, view: FabricView, seconds_left: float
    ) -> dict[str, JsonValue]:
        """Run the script that is ordered to its end, and return what it wrote.

        AttemptError: it cannot be run, ended with another code than 0, wrote to standard error, or
        was ended because of its time or its output.
        """
        order = _order(assignment)
        script = await asyncio.to_thread(find_script, order.path, view.library_shares)
        name = hashlib.sha256(assignment.command_id.encode()).hexdigest()[:32]
        folder = self._folder / name
        content = completed(order.context, view)
        await asyncio.to_thread(_make_folder, folder, content)
        seconds = min(float(order.seconds), seconds_left)
        try:
            log.info("script_begun", command_id=assignment.command_id, script=str(script))
            environment = environment_of(order.context, folder, script)
            ended = await run_process(
                script, folder=folder, environment=environment, seconds=seconds
            )
        except OSError as error:
            raise _not_runnable(script, str(error)) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        log.info("script_ended", command_id=assignment.command_id, exit_code=ended.exit_code)
        return _judged(ended, script, seconds)


def interrupted(assignment: Assignment) -> AttemptError:
    """Return the error of a script that was begun before the provider ended."""
    error = own_error(
        ErrorCode.SCRIPT_INTERRUPTED,
        "the provider was restarted while the script ran: how far it came is not known",
        "the provider, or its server, was stopped or ended; the script ended with it",
        "look at what the script has done, then restart the job: that runs the script again",
    )
    log.warning("script_interrupted", command_id=assignment.command_id)
    return AttemptError(error)


def find_script(path: str, shares: Sequence[LibraryShareView]) -> Path:
    """Return the file of a script; AttemptError says why it is none that may be run."""
    try:
        place = script_place(path, [share.unc for share in shares])
    except ScriptPathError as error:
        raise _refused(path, str(error)) from error
    here = [
        Path(share.folder)
        for share in shares
        if share.folder is not None and same_share(share.unc, place.share)
    ]
    if not here:
        raise _missing(path, "the server's library has no share whose files are here")
    for folder in here:
        found = _resolved(folder, folder / place.path)
        if found is None:
            continue
        root = folder.resolve()
        if not found.is_relative_to(root):
            raise _refused(path, "a link on its way leads out of the library share")
        _check_runnable(found, path)
        # Run under its real name, so that no link on the way can be turned after this look. Who
        # may write to the share decides what runs anyway.
        return found
    looked = ", ".join(str(folder) for folder in here)
    raise _missing(path, f"there is no such file in {looked}")


def completed(context: ScriptContext, view: FabricView) -> bytes:
    """Return the context as the script reads it, with the machines' addresses of this server."""
    nics = {each.machine_id: each.nics for each in view.machines}
    document: dict[str, Any] = context.model_dump(mode="json")
    for machine in document["machines"]:
        machine["addresses"] = [
            nic.address for nic in nics.get(machine["machine_id"], ()) if nic.address is not None
        ]
    return json.dumps(document, indent=2).encode()


def environment_of(context: ScriptContext, folder: Path, script: Path) -> dict[str, str]:
    """Return all that the script's environment holds; nothing of the provider's own."""
    programs = (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")
    return {
        "PATH": os.pathsep.join(programs),
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        f"{PREFIX}CONTEXT": str(folder / CONTEXT_FILE),
        f"{PREFIX}SCRIPT_FOLDER": str(script.parent),
        f"{PREFIX}PLAN": context.plan_name,
        f"{PREFIX}PLAN_ID": context.plan_id,
        f"{PREFIX}GROUP": context.group,
        f"{PREFIX}WHEN": context.when,
        f"{PREFIX}KIND": context.kind,
        f"{PREFIX}DIRECTION": context.direction,
        f"{PREFIX}SIDE": context.side,
        f"{PREFIX}JOB": context.job_id,
        f"{PREFIX}MACHINE_COUNT": str(len(context.machines)),
        f"{PREFIX}MACHINES": _names(context),
    }


def _names(context: ScriptContext) -> str:
    """Return the machines' names, a line each; nothing where they are too many for a variable."""
    names = "\n".join(each.name for each in context.machines)
    return names if len(names.encode()) <= VARIABLE_BYTES_MAX else ""


def _order(assignment: Assignment) -> ScriptOrder:
    try:
        return ScriptOrder.model_validate_json(json.dumps(assignment.arguments))
    except (ValidationError, ValueError) as error:
        raise AttemptError(
            own_error(
                ErrorCode.SCRIPT_PATH,
                "the order names no script that could be run: its arguments cannot be read",
                recommended_action="is the hub of another version? upgrade this provider",
            )
        ) from error


def _make_folder(folder: Path, context: bytes) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    handle = os.open(folder / CONTEXT_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(context)


def _resolved(folder: Path, path: Path) -> Path | None:
    """Return where a path leads; None where there is nothing."""
    try:
        return path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError) as error:
        raise _not_runnable(path.relative_to(folder), str(error)) from error


def _check_runnable(script: Path, path: str) -> None:
    try:
        mode = script.stat().st_mode
    except OSError as error:
        raise _not_runnable(path, str(error)) from error
    if not stat.S_ISREG(mode):
        raise _not_runnable(path, "it is no file")
    if not mode & 0o111 or not os.access(script, os.X_OK):
        raise _not_runnable(path, "it has no run bit for the provider: chmod +x")


def _judged(ended: Ended, script: Path, seconds: float) -> dict[str, JsonValue]:
    output, errors = ended.output.text(), ended.errors.text()
    seen: dict[str, JsonValue] = {
        "result": {
            "exit_code": ended.exit_code,
            "output": output,
            "errors": errors,
            "output_bytes": ended.output.size + ended.errors.size,
        }
    }
    said = _last_words(errors or output)
    match ended.how:
        case ScriptEnd.TIMED_OUT:
            code, cause = ErrorCode.SCRIPT_TIMED_OUT, f"was ended after {seconds:.0f} s"
            remedy = "mend what it waits for, or give the action a longer time limit"
        case ScriptEnd.WROTE_TOO_MUCH:
            code = ErrorCode.SCRIPT_OUTPUT
            cause = f"was ended: it wrote more than {OUTPUT_BYTES_MAX} bytes"
            remedy = "let it write less, or into a file"
        case _ if ended.exit_code != 0:
            code, cause = ErrorCode.SCRIPT_FAILED, f"ended with {_exit(ended.exit_code)}"
            remedy = "mend what it says, then restart the job: that runs the script again"
        case _ if ended.errors.size:
            code, cause = ErrorCode.SCRIPT_FAILED, "ended well but wrote to standard error"
            remedy = "mend what it says, then restart the job: that runs the script again"
        case _:
            return seen
    message = f"the script {script.name} {cause}{said}"
    raise AttemptError(own_error(code, message, recommended_action=remedy), seen)


def _exit(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}"


def _last_words(text: str) -> str:
    words = text.strip()[-SHOWN_CHARACTERS:]
    return f"; it said: {words}" if words else ""


def _refused(path: str, cause: str) -> AttemptError:
    message = f"the script '{path}' is refused: {cause}"
    return AttemptError(own_error(ErrorCode.SCRIPT_PATH, message))


def _missing(path: str, cause: str) -> AttemptError:
    message = f"the script '{path}' was not found: {cause}"
    remedy = "copy it into the VMM library of this server, at both sites where both run it"
    return AttemptError(own_error(ErrorCode.SCRIPT_MISSING, message, recommended_action=remedy))


def _not_runnable(script: Path | str, cause: str) -> AttemptError:
    message = f"the script '{script}' cannot be run: {cause}"
    return AttemptError(own_error(ErrorCode.SCRIPT_NOT_RUNNABLE, message))
