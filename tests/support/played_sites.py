"""Management ports of laboratory sites that only remember."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from service_hub.domain.injections import InjectionKind
from service_hub.injection_ports import LaboratoryError


@dataclass
class PlayedSites:
    """Remembers what was injected; `refuses` says why a site does nothing."""

    injected: list[tuple[str, InjectionKind, Mapping[str, JsonValue]]] = field(default_factory=list)
    refuses: str | None = None

    def knows(self, vmm_fqdn: str) -> bool:
        """Tokyo alone is a laboratory's."""
        return vmm_fqdn == "tokyo.example"

    async def inject(
        self, vmm_fqdn: str, event: InjectionKind, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Note it."""
        if self.refuses is not None:
            raise LaboratoryError(self.refuses)
        self.injected.append((vmm_fqdn, event, arguments))
