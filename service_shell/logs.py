"""Log set-up: one JSON object per line to a file, or a readable console; secrets never."""

import asyncio
import contextlib
import json
import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic_core import to_json
from structlog.types import EventDict, Processor, WrappedLogger

from service_shell.configuration import LogSettings
from service_shell.errors import ProgramError
from service_shell.redaction import is_secret_key, may_hold_secret, redact

# What belongs to the logging machinery itself: not data, and partly not copyable.
_MACHINERY: Final = frozenset({"_record", "_from_structlog", "exc_info", "stack_info"})

_HANDLER_NAME: Final = "service_shell"
"""Marks our handler: what a host of this process, such as a test runner, has added stays."""

_PLAIN: Final = frozenset({int, bool, type(None)})

_LEVELS: Final = {name.lower(): at for name, at in logging.getLevelNamesMapping().items()}

HELD_SECONDS_MAX: Final = 0.05
"""Longest that a line waits for those behind it: a busy hub would spend its time on writing."""


class _GatheringHandler(logging.handlers.WatchedFileHandler):
    """Writes what an event loop's thread logs together; warnings and worse are written at once.

    Watched: after logrotate has moved the file away, the next lines open it anew.
    """

    def __init__(self, file: Path) -> None:
        self._held: list[str] = []
        self._writing_loop: asyncio.AbstractEventLoop | None = None
        super().__init__(file, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Hold the line until it is written."""
        try:
            self.take(self.format(record), record.levelno)
        except Exception:  # noqa: BLE001 -- as logging does: a log that fails must not stop the program
            self.handleError(record)

    def take(self, line: str, level: int) -> None:
        """Hold a line of this level until it is written."""
        with self.lock or contextlib.nullcontext():
            self._held.append(line)
            if level >= logging.WARNING:
                self.flush()
            elif self._writing_loop is None or self._writing_loop.is_closed():
                self._write_soon()

    def _write_soon(self) -> None:
        loop = _running_loop()
        if loop is None:
            self.flush()
        else:
            self._writing_loop = loop
            loop.call_later(HELD_SECONDS_MAX, self.flush)

    def flush(self) -> None:
        """Write what is held; what cannot be written is said on standard error and given up."""
        with self.lock or contextlib.nullcontext():
            held, self._held = self._held, []
            self._writing_loop = None
            try:
                if held:
                    self.reopenIfNeeded()
                if held and self.stream is not None:
                    self.stream.write("\n".join(held) + "\n")
                super().flush()
            except OSError:
                self.handleError(logging.makeLogRecord({"msg": "%d lines lost", "args": len(held)}))


class _ToFile:
    """Processor: renders our own entries without a detour; a busy hub logs thousands in a second.

    What has a traceback goes the way of all entries, and everything does while another handler,
    such as a test runner's, wants to see it.
    """

    def __init__(self, program: str, handler: _GatheringHandler) -> None:
        self._program = program
        self._handler = handler
        self._handlers = [handler]
        self._encode = json.JSONEncoder(default=str).encode

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Write the entry, or hand it on."""
        if not _MACHINERY.isdisjoint(event) or logging.root.handlers != self._handlers:
            return event
        event["program"] = self._program
        line = self._plain_line(event) or self._encode(redact(event))
        self._handler.take(line, _LEVELS.get(method, logging.INFO))
        raise structlog.DropEvent

    def _plain_line(self, event: EventDict) -> str | None:
        """Return the line of an entry that redacting would leave as it is; None where it may not.

        Nearly every entry is one, and looking into each of its values costs as much as the rest.
        """
        for key, value in event.items():
            kind = type(value)
            if kind is list:
                is_plain = all(type(each) is str and each.isascii() for each in value)
            else:
                is_plain = value.isascii() if kind is str else kind in _PLAIN
            if not is_plain or is_secret_key(key):
                return None
        line = to_json(event).decode()
        return None if may_hold_secret(line) else line


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a thread beside the loop, or none runs
        return None


def redact_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: replace what must not be logged, by key name and by form, also in tracebacks."""
    machinery = {key: event[key] for key in _MACHINERY & event.keys()}
    rest = {key: value for key, value in event.items() if key not in _MACHINERY}
    cleaned: dict[str, Any] = redact(rest)
    return {**cleaned, **machinery}


def drop_needless_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: of an error that says of itself `needs_no_trace` its words are enough.

    That is a full disk, or a server that restarts: a trace would hide, not explain.
    """
    given = event.get("exc_info")
    match given:
        case True:
            error = sys.exc_info()[1]
        case tuple():
            error = given[1]
        case _:
            error = given
    if getattr(error, "needs_no_trace", False):
        event.pop("exc_info")
        event.setdefault("cause", str(error))
    return event


def configure_logging(settings: LogSettings, program: str) -> None:
    """Send every log entry of this process, also those of libraries, to where `settings` say."""
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)
    # What only records of other libraries have.
    shared: list[Processor] = [*first, structlog.stdlib.ExtraAdder(), stamped]
    handler = _open_handler(settings.file)
    quick = [_ToFile(program, handler)] if isinstance(handler, _GatheringHandler) else []
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            drop_needless_trace,
            *first,
            stamped,
            *quick,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=_named_logger,
        cache_logger_on_first_use=True,
    )
    rendering: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _name_program(program),
        # Last before rendering, so that nothing passes it, tracebacks included.
        redact_secrets,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _renderer(to_file=settings.file is not None),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering)
    )
    handler.name = _HANDLER_NAME
    root = logging.getLogger()
    former = _our_handler()
    if former is not None:
        root.removeHandler(former)
        former.close()
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)
    # No entry shows them (docs.python.org, logging, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def is_configured() -> bool:
    """Tell whether the log of this process goes where a configuration said."""
    return _our_handler() is not None


def log_file() -> Path | None:
    """Return the file that the log goes to, None where it goes to the console."""
    handler = _our_handler()
    return Path(handler.baseFilename) if isinstance(handler, logging.FileHandler) else None


def flush_logs() -> None:
    """Hand everything that was logged to the operating system."""
    handler = _our_handler()
    if handler is not None:
        handler.flush()


def _our_handler() -> logging.Handler | None:
    ours = (each for each in logging.getLogger().handlers if each.name == _HANDLER_NAME)
    return next(ours, None)


def _open_handler(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return _GatheringHandler(file)
    except OSError as error:
        raise ProgramError(
            f"cannot write the log {file}: {error.strerror}; correct the log file's path"
        ) from error


def _named_logger(*names: str) -> logging.Logger:
    # Not structlog's own class of loggers: it looks for the caller's frame, which no entry shows.
    return logging.getLogger(names[0]) if names else logging.getLogger()


def _name_program(program: str) -> Processor:
    def name_program(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["program"] = program
        return event

    return name_program


def _renderer(*, to_file: bool) -> Processor:
    if to_file:
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
