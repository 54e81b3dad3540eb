"""What the exit code of every command says; docs/cli.md has the same table, a test compares."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    DONE = 0
    JOB_FAILED = 1
    USAGE = 2
    NOT_LOGGED_IN = 3
    NOT_PERMITTED = 4
    NOT_FOUND = 5
    REFUSED = 6
    NOT_REACHABLE = 7
    NOT_OFFERED = 8
    TOOK_TOO_LONG = 9
    INTERNAL = 70
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done; with --wait also the job",
    ExitCode.JOB_FAILED: "the job failed or was cancelled, a local file could not be used, or"
    " doctor found a failure",
    ExitCode.USAGE: "the command line was wrong",
    ExitCode.NOT_LOGGED_IN: "no profile, or the hub did not accept the token",
    ExitCode.NOT_PERMITTED: "the token's role may not do this",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.REFUSED: "the hub refused: wrong value, wrong state, or still in use",
    ExitCode.NOT_REACHABLE: "the hub did not answer, or its certificate is not trusted",
    ExitCode.NOT_OFFERED: "this hub does not offer the operation",
    ExitCode.TOOK_TOO_LONG: "--wait gave up; the job goes on",
    ExitCode.INTERNAL: "a mistake of ours; the traceback is above",
    ExitCode.INTERRUPTED: "ended by Ctrl-C; a job that was begun goes on",
}
