"""Adapters as they were asked for, and every way in which they can be unlike that."""

from typing import Any, Final

ADAPTERS: Final = {
    "adapters": [
        {"nic_id": "n", "network_id": "network-1", "subnet": "front", "address_type": "Static"},
        {"nic_id": "m", "network_id": None},
    ]
}
"""The arguments of `connect_adapters`."""

_STATIC: Final[dict[str, Any]] = {
    "nic_id": "n",
    "network_id": "network-1",
    "subnet": "front",
    "address_type": "Static",
    "address": "10.1.0.7",
}
_LOOSE: Final[dict[str, Any]] = {"nic_id": "m", "network_id": None}

AS_ASKED: Final = (_STATIC, _LOOSE)
UNLIKE: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    (),
    (_STATIC,),
    ({**_STATIC, "network_id": "network-2"}, _LOOSE),
    ({**_STATIC, "subnet": "back"}, _LOOSE),
    ({**_STATIC, "address": None}, _LOOSE),
    (_STATIC, {**_LOOSE, "network_id": "network-1"}),
    (_STATIC, {**_LOOSE, "address": "10.1.0.8"}),
)
