"""Scenario files: what is injected, what is waited for and what must then hold (docs/scenarios.md).

The models are the published JSON Schema (`site-recovery inject schema`). A file is foreign bytes:
its size and depth are bounded, and aliases, by which a small file can become a huge one, refused.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError

FILE_BYTES_MAX: Final = 262_144
DEPTH_MAX: Final = 20
STEPS_MAX: Final = 200
SECONDS_MAX: Final = 86_400.0

Name = Annotated[str, Field(min_length=1, max_length=260, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX)]

Kind = Literal[
    "test_failover",
    "test_failover_cleanup",
    "planned_failover",
    "unplanned_failover",
    "change_recovery_point",
    "cancel_failover",
    "commit",
    "reverse_replicate",
    "site_outage",
    "provider_loss",
    "replication_fault",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Part):
    """What an event is injected into: one of these names, or an ARM id."""

    item: Name | None = None
    plan: Name | None = None
    container: Name | None = None
    fabric: Name | None = None
    id: Name | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.named) != 1:
            raise ValueError("name one of item, plan, container, fabric and id")
        return self

    @property
    def named(self) -> dict[str, str]:
        """What is named, by what it is."""
        return self.model_dump(exclude_none=True)


class Inject(_Part):
    """An event that is injected now; its job is known by the name of the step."""

    kind: Kind
    target: Target
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class Item(_Part):
    """What a protected machine must be like; what is left out may be as it likes."""

    item: Name
    state: Name | None = None
    active: Literal["Primary", "Recovery"] | None = None
    health: Name | None = None
    allows: tuple[Name, ...] = ()
    refuses: tuple[Name, ...] = ()
    reasons: tuple[Name, ...] = Field(default=(), description="Codes among its health errors.")


class Ended(_Part):
    """How the job of an earlier step must have ended."""

    job: Name
    state: Literal["Succeeded", "Failed", "Cancelled", "Suspended"] = "Succeeded"
    task: Name | None = Field(default=None, description="The task that failed.")
    code: Name | None = Field(default=None, description="A code among its errors.")


class Begun(_Part):
    """The job of an earlier step is at this task now."""

    job: Name
    doing: Name = Field(description="The task that is in progress, by name or as people read it.")


class Server(_Part):
    """Whether a server's provider is connected."""

    server: Name
    connected: bool


Condition = Item | Begun | Ended | Server


class Process(_Part):
    """What is done to a process of a laboratory; needs `--laboratory`."""

    name: Name
    does: Literal["kill", "stop", "continue", "start"]


class Line(_Part):
    """What is done to the line between a site of a laboratory and its hub; needs `--laboratory`.

    Without `carries` all of it: HTTPS and MQTT.
    """

    site: Name = Field(description="The site's name in the estate file, or all.")
    does: Literal["cut", "heal"]
    carries: Literal["https", "mqtt"] | None = None


class Step(_Part):
    """One step: it injects, waits, expects, or does something to a part of a laboratory.

    `always`: also when something before it failed, to leave behind what was found.
    """

    name: Name
    inject: Inject | None = None
    wait_for: Condition | None = None
    wait: Seconds | None = Field(default=None, description="Seconds that just go by.")
    expect: Condition | None = None
    process: Process | None = None
    line: Line | None = None
    seconds: Seconds = Field(default=300, description="The longest that wait_for takes.")
    always: bool = False

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        things = (self.inject, self.wait_for, self.wait, self.expect, self.process, self.line)
        if sum(each is not None for each in things) != 1:
            raise ValueError("give one of inject, wait_for, wait, expect, process and line")
        return self


class Scenario(_Part):
    """The whole file."""

    scenario: Name
    description: str = Field(default="", max_length=4_096)
    variables: dict[Name, Name] = Field(default_factory=dict, max_length=100)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_MAX)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen:
                raise ValueError(f"two steps are named '{step.name}'")
            condition = step.wait_for or step.expect
            if isinstance(condition, Ended | Begun) and condition.job not in seen:
                raise ValueError(f"'{step.name}' asks for the job of no earlier step")
            seen.add(step.name)
        return self


def load_scenario(path: Path, changes: dict[str, str]) -> Scenario:
    """Return what a file says, its variables filled in; CommandError names what is wrong."""
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(
            f"cannot read {path}: {error.strerror}; name a scenario file", ExitCode.USAGE
        ) from error
    return read_scenario(content, changes, str(path))


def read_scenario(content: bytes, changes: dict[str, str], name: str) -> Scenario:
    """Return what the bytes of a file say; CommandError names what is wrong."""
    if len(content) > FILE_BYTES_MAX:
        raise _wrong(name, f"it is longer than {FILE_BYTES_MAX} bytes")
    try:
        document = yaml.load(content, Loader=_PlainLoader)  # noqa: S506 -- a safe loader, narrowed
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _wrong(name, " ".join(str(error).split())) from error
    if not isinstance(document, dict):
        raise _wrong(name, "it is no mapping of scenario and steps")
    variables = document.get("variables") or {}
    if isinstance(variables, dict):
        unknown = changes.keys() - variables.keys()
        if unknown:
            raise _wrong(name, f"it has no variable '{min(unknown)}'")
        document["variables"] = {**variables, **changes}
        document["steps"] = _filled(document.get("steps"), document["variables"])
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(each) for each in first["loc"]) or "the file"
        raise _wrong(name, f"{place}: {first['msg']}") from error


def _filled(value: Any, variables: dict[Any, Any]) -> Any:
    """Return a document whose texts `${name}` are replaced by variables."""
    if isinstance(value, str):
        for key, text in variables.items():
            value = value.replace(f"${{{key}}}", str(text))
        return value
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, variables) for key, each in value.items()}
    return value


def _wrong(name: str, cause: str) -> CommandError:
    return CommandError(
        f"{name} is no scenario: {cause}; see docs/scenarios.md, or: site-recovery inject schema",
        ExitCode.USAGE,
    )


class _PlainLoader(yaml.SafeLoader):
    """Plain values alone: no aliases, no depth without end."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken here")
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise yaml.YAMLError(f"it is more than {DEPTH_MAX} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1
