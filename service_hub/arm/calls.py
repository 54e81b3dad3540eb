"""A request as handlers see it, and an answer as they give it; neither knows the HTTP library."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service_hub.domain.access import OperatorIdentity
from service_hub.ports.use_cases import RequestIdentity

Json = Mapping[str, Any]
"""A JSON object on its way out."""


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request: `names` are the decoded segments of the path.

    `operator` is None where the hub itself asks (inner_requests).
    """

    identity: RequestIdentity
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    url: str
    operator: OperatorIdentity | None = None
    if_match: str | None = None

    def sees(self, vault_id: str) -> bool:
        """Whether a vault is there for who asks."""
        return self.operator is None or self.operator.sees(vault_id)

    def name(self, segment: str) -> str:
        """Return a name as it was written."""
        return self.names[segment]

    def folded(self, segment: str) -> str:
        """Return a name that is a GUID or hex in its stored form, lower case."""
        return self.names[segment].lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent; `request_ids` replaces the usual `x-ms-request-id` where the job is named."""

    status: int = 200
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_ids: Sequence[str] = ()


Handler = Callable[[Call], Awaitable[Answer]]
