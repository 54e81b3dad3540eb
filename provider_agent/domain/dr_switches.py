"""The switches of DRConfigurator, as documented for the original (seed, step 3; behaviour 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from provider_agent.domain.registering import encryption_refusal

PORT_MAX: Final = 65_535

_WITH_VALUE: Final = {
    "/friendlyname": "friendly_name",
    "/vmmfriendlyname": "friendly_name",
    "/credentials": "credentials",
    "/encryptionenabled": "encryption_file",
    "/dataencryptionenabled": "encryption_file",
    "/proxyaddress": "proxy_address",
    "/proxyport": "proxy_port",
    "/proxyusername": "proxy_username",
    "/proxypassword": "proxy_password",
    "--proxy-password-file": "proxy_password_file",
    "--config": "config",
}
"""Both spellings of a switch mean the same; the last two are ours."""

_FLAGS: Final = {"/r": "register", "/startvmmservice": "start_vmm_service"}
_SHOWN: Final = (
    "/r /Friendlyname NAME /Credentials FILE [/EncryptionEnabled FILE.pfx] [/proxyAddress ADDRESS"
    " /proxyport PORT] [/proxyUsername USER /proxyPassword PASSWORD | --proxy-password-file FILE]"
    " [/startvmmservice] [--config FILE]"
)
USAGE: Final = f"DRConfigurator {_SHOWN}"


class SwitchError(ValueError):
    """The command line cannot be meant; the message names the switch."""


@dataclass(frozen=True, slots=True)
class DrSwitches:
    """What the command line says."""

    friendly_name: str
    credentials: str
    encryption_file: str | None = None
    proxy_address: str | None = None
    proxy_port: int | None = None
    proxy_username: str | None = None
    proxy_password: str | None = None
    proxy_password_file: str | None = None
    start_vmm_service: bool = False
    config: str | None = None


def read_switches(words: Sequence[str]) -> DrSwitches:
    """Return what the words say; upper and lower case are the same. SwitchError names the fault."""
    values: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(words)
    while rest:
        switch = rest.pop(0)
        name = switch.lower()
        if name in _FLAGS:
            flags.add(_FLAGS[name])
        elif name in _WITH_VALUE:
            key = _WITH_VALUE[name]
            if key in values:
                raise SwitchError(f"{switch} is given twice, in one spelling or the other")
            if not rest or not rest[0] or rest[0].lower() in {*_WITH_VALUE, *_FLAGS}:
                raise SwitchError(f"{switch} needs a value after it")
            values[key] = rest.pop(0)
        else:
            # The word itself may be a password that went astray: it is not repeated.
            raise SwitchError(
                f"word {len(words) - len(rest)} is no switch of this program; {USAGE}"
            )
    return _checked(values, flags)


def _checked(values: dict[str, str], flags: set[str]) -> DrSwitches:
    if "register" not in flags:
        raise SwitchError(f"/r is missing: registration is all that this program does; {USAGE}")
    for key, switch in (("credentials", "/Credentials"), ("friendly_name", "/Friendlyname")):
        if key not in values:
            raise SwitchError(f"{switch} is missing; {USAGE}")
    encryption_file = values.get("encryption_file")
    if encryption_file is not None and (reason := encryption_refusal(encryption_file)) is not None:
        raise SwitchError(f"/EncryptionEnabled: {reason}")
    port = values.pop("proxy_port", None)
    if ("proxy_address" in values) != (port is not None):
        raise SwitchError("/proxyAddress and /proxyport belong together: give both or none")
    if "proxy_password" in values and "proxy_password_file" in values:
        raise SwitchError("give /proxyPassword or --proxy-password-file, not both")
    with_password = "proxy_password" in values or "proxy_password_file" in values
    if with_password != ("proxy_username" in values):
        raise SwitchError("/proxyUsername and a password belong together: give both or none")
    if "proxy_username" in values and "proxy_address" not in values:
        raise SwitchError("/proxyUsername without /proxyAddress: name the proxy it is for")
    return DrSwitches(
        friendly_name=values["friendly_name"],
        credentials=values["credentials"],
        encryption_file=encryption_file,
        proxy_address=values.get("proxy_address"),
        proxy_username=values.get("proxy_username"),
        proxy_password=values.get("proxy_password"),
        proxy_password_file=values.get("proxy_password_file"),
        config=values.get("config"),
        proxy_port=None if port is None else _port(port),
        start_vmm_service="start_vmm_service" in flags,
    )


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(PORT_MAX)):
        port = int(text)
        if 1 <= port <= PORT_MAX:
            return port
    raise SwitchError(f"/proxyport is a number from 1 to {PORT_MAX}")
