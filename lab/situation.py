"""What the story works with: the running estate, the operator, the figures so far."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.builder import EstateBuilder
from lab.console import StoryConsole
from lab.estate import Pairing
from lab.item_operations import ItemOperations, Place
from lab.management_client import ManagementClient
from lab.operator_client import Operator
from lab.operator_file import OperatorFile
from lab.report import Finding, OperationFigures, OperationName


@dataclass(slots=True)
class Situation:
    """The state of the story between two steps."""

    builder: EstateBuilder
    operator: Operator
    file: OperatorFile
    pairing: Pairing
    management: Mapping[str, ManagementClient]
    figures: list[OperationFigures] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    epochs: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    policy_id: str = ""

    @property
    def console(self) -> StoryConsole:
        """Where the story is told."""
        return self.builder.console

    @property
    def primary_site(self) -> str:
        """Name of the site that is protected."""
        return self.pairing.primary.partition("/")[0]

    @property
    def recovery_site(self) -> str:
        """Name of the site that takes over."""
        return self.pairing.recovery.partition("/")[0]

    def place(self, reference: str) -> Place:
        """Return a cloud, named `site/cloud`, on the ARM surface."""
        site, cloud = self.builder.estate.cloud(reference)
        container = self.builder.estate.identity(site.name, "cloud", cloud.name)
        return Place.of(self.operator, self.file.sites[site.name].fabric, container)

    def machine_id(self, name: str) -> str:
        """Return the GUID of a protected machine: the item's name, and its Hyper-V id."""
        return self.builder.estate.identity(self.primary_site, "machine", name)

    def item(self, name: str) -> ItemOperations:
        """Return the operations of one protected machine, told task by task."""
        return ItemOperations(
            self.operator,
            self.place(self.pairing.primary),
            self.machine_id(name),
            name,
            self.console.tasks_of(name),
        )

    def find(self, operation: OperationName, vm: str, text: str) -> None:
        """Note something that must not be, once."""
        finding = Finding(operation=operation, vm=vm, text=text)
        if finding not in self.findings:
            self.findings.append(finding)
            self.console.problem(f"{vm}: {text}")
