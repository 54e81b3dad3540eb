"""The estate that is measured: two sites, and machines with small disks and guests of their own."""

from typing import Final

from lab.estate import Estate

HOSTS: Final = 10
"""Hosts of each site; machines are spread over them."""

PRIMARY: Final = "tokyo"
RECOVERY: Final = "osaka"
CLOUD: Final = "Cloud"
INTERVAL_SECONDS: Final = 900
"""Replication between failovers is not what is measured: the longest frequency."""


def estate_of(machines: int) -> Estate:
    """Return an estate with so many machines at the primary site."""
    return Estate.model_validate(
        {
            "name": "bench-failover",
            "replication_interval_seconds": INTERVAL_SECONDS,
            "guests": "task",
            "sites": [_site(PRIMARY, machines), _site(RECOVERY, 0)],
            "pairings": [
                {
                    "primary": f"{PRIMARY}/{CLOUD}",
                    "recovery": f"{RECOVERY}/{CLOUD}",
                    "protect": [machine_name(number) for number in range(machines)],
                }
            ],
        }
    )


def machine_name(number: int) -> str:
    """Return the name of a machine."""
    return f"vm{number:05}"


def _site(name: str, machines: int) -> dict[str, object]:
    hosts = [f"hv{number:02}.{name}.bench.example" for number in range(HOSTS)]
    disk = {"name": "system", "kind": "OperatingSystem", "bare": True}
    return {
        "name": name,
        "vmm": {"fqdn": f"vmm01.{name}.bench.example"},
        "host_groups": ["Hosts"],
        "hosts": [{"fqdn": fqdn, "host_group": "Hosts"} for fqdn in hosts],
        "clouds": [{"name": CLOUD, "host_groups": ["Hosts"]}],
        "machines": [
            {
                "name": machine_name(number),
                "cloud": CLOUD,
                "host": hosts[number % HOSTS],
                "records_per_second": 0.0,
                "disks": [disk],
            }
            for number in range(machines)
        ],
    }
