"""Which proxy the provider takes to its hub: configuration, environment or registration.

One resolver for HTTPS and MQTT; no library looks at the environment by itself (design: channel).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from provider_agent.domain.proxies import (
    PORT_MAX,
    Proxy,
    ProxyCredentials,
    ProxyError,
    ProxyRules,
    check_address,
    parse_bypass,
    parse_proxy_url,
)
from service_shell.configuration import Settings
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

PASSWORD_BYTES_MAX: Final = 1024
REGISTERED_BYTES_MAX: Final = 65_536
BYPASS_ENTRIES_MAX: Final = 256
REGISTERED_FILE: Final = "proxy.json"
"""Below the data directory: the proxy given at registration, with its password; mode 0600."""

_PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy")
_BYPASS_VARIABLES: Final = ("NO_PROXY", "no_proxy")


class ProxySettings(Settings):
    """How to reach the hub: directly, as the environment says, or through this proxy."""

    mode: Literal["none", "system", "custom"] = "none"
    address: str | None = None
    port: int | None = Field(default=None, ge=1, le=PORT_MAX)
    username: str | None = None
    password_file: Path | None = None
    bypass: tuple[str, ...] = Field(default=(), max_length=BYPASS_ENTRIES_MAX)

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        return None if address is None else check_address(address)

    @field_validator("bypass")
    @classmethod
    def _are_entries(cls, bypass: tuple[str, ...]) -> tuple[str, ...]:
        parse_bypass(bypass)
        return bypass

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = [
            name
            for name in ("address", "port", "username", "password_file", "bypass")
            if getattr(self, name)
        ]
        if self.mode != "custom" and given:
            raise ValueError(f"{given[0]} belongs to mode custom, but the mode is {self.mode}")
        if self.mode == "custom" and (self.address is None or self.port is None):
            raise ValueError("mode custom needs address and port")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or none")
        return self


class HubRoute:
    """The rules in force; credentials may change while the provider runs."""

    def __init__(self, rules: ProxyRules) -> None:
        self._rules = rules

    @property
    def credentials(self) -> ProxyCredentials | None:
        """What the proxy is told, where it asks for something."""
        return self._rules.proxy.credentials if self._rules.proxy is not None else None

    def proxy_for(self, host: str, port: int) -> Proxy | None:
        """Return the proxy on the way to this address, None for a direct connection."""
        return self._rules.proxy_for(host, port)

    def use_credentials(self, credentials: ProxyCredentials) -> None:
        """Say this to the proxy from the next connection on."""
        if self._rules.proxy is not None:
            proxy = dataclasses.replace(self._rules.proxy, credentials=credentials)
            self._rules = dataclasses.replace(self._rules, proxy=proxy)


class _RegisteredProxy(Settings):
    address: str
    port: int = Field(ge=1, le=PORT_MAX)
    username: str | None = None
    password: str | None = None
    bypass: tuple[str, ...] = ()


def custom_proxy(
    address: str | None, port: int | None, username: str | None, password_file: Path | None
) -> ProxyRules | None:
    """Return the rules of `--proxy-…` options, None where none was given; ProgramError."""
    if (address, port, username, password_file) == (None, None, None, None):
        return None
    try:
        settings = ProxySettings(
            mode="custom",
            address=address,
            port=port,
            username=username,
            password_file=password_file,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"--proxy-{str(step).replace('_', '-')}: " for step in first["loc"][:1])
        raise ProgramError(f"{where}{first['msg']}") from error
    return rules_of(settings, {})


def load_rules(
    settings: ProxySettings | None, data_directory: Path, environment: Mapping[str, str]
) -> ProxyRules:
    """Return the way to the hub: the configuration's where it has a section, else as registered."""
    if settings is not None:
        return rules_of(settings, environment)
    return _registered_rules(data_directory) or ProxyRules()


def chosen_rules(
    given: ProxyRules | None,
    settings: ProxySettings | None,
    data_directory: Path,
    environment: Mapping[str, str],
) -> ProxyRules:
    """Return the rules of `--proxy-…` options where they are given, else as without them."""
    if given is None:
        return load_rules(settings, data_directory, environment)
    if settings is not None:
        raise ProgramError(
            "the configuration has a proxy section, which would win over the --proxy options;"
            " leave one of them out"
        )
    return given


def rules_of(settings: ProxySettings, environment: Mapping[str, str]) -> ProxyRules:
    """Return the rules of a configuration's section; the password is read now."""
    try:
        if settings.mode == "system":
            return _environment_rules(environment)
        if settings.mode == "none":
            return ProxyRules()
        assert settings.address is not None, "checked with the section"
        assert settings.port is not None, "checked with the section"
        credentials = None
        if settings.username is not None and settings.password_file is not None:
            password = read_password(settings.password_file)
            credentials = ProxyCredentials(settings.username, password)
        proxy = Proxy(settings.address, settings.port, credentials)
        return ProxyRules(proxy, parse_bypass(settings.bypass))
    except ProxyError as error:
        raise ProgramError(f"the proxy cannot be used: {error}") from error


def read_password(path: Path) -> str:
    """Return the one line of a password file (0600), without its line end."""
    try:
        password = read_secret(path, PASSWORD_BYTES_MAX).decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ProgramError(f"{path} is not UTF-8 text; write the proxy's password into it") from (
            error
        )
    if not password.removesuffix("\r"):
        raise ProgramError(f"{path} is empty; write the proxy's password into it")
    return password.removesuffix("\r")


def save_registered(data_directory: Path, rules: ProxyRules, bypass: tuple[str, ...] = ()) -> None:
    """Keep the proxy given at registration, 0600, for a configuration without a proxy section."""
    assert rules.proxy is not None, "a direct connection is not kept: it needs no words"
    credentials = rules.proxy.credentials
    registered = _RegisteredProxy(
        address=rules.proxy.address,
        port=rules.proxy.port,
        username=credentials.username if credentials else None,
        password=credentials.password if credentials else None,
        bypass=bypass,
    )
    write_secret(data_directory / REGISTERED_FILE, registered.model_dump_json().encode())


def _registered_rules(data_directory: Path) -> ProxyRules | None:
    path = data_directory / REGISTERED_FILE
    if not path.exists():
        return None
    data = read_secret(path, REGISTERED_BYTES_MAX)
    try:
        registered = _RegisteredProxy.model_validate_json(data)
        credentials = None
        if registered.username is not None and registered.password is not None:
            credentials = ProxyCredentials(registered.username, registered.password)
        proxy = Proxy(check_address(registered.address), registered.port, credentials)
        return ProxyRules(proxy, parse_bypass(registered.bypass))
    except ValueError as error:
        raise ProgramError(
            f"{path} is damaged ({type(error).__name__}); remove it and write a proxy section into"
            " the configuration"
        ) from error


def _environment_rules(environment: Mapping[str, str]) -> ProxyRules:
    url = next((environment[name] for name in _PROXY_VARIABLES if environment.get(name)), None)
    if url is None:
        return ProxyRules()
    bypass = next((environment[name] for name in _BYPASS_VARIABLES if environment.get(name)), "")
    try:
        return ProxyRules(parse_proxy_url(url), parse_bypass(bypass.split(",")))
    except ProxyError as error:
        raise ProxyError(f"HTTPS_PROXY or NO_PROXY of the environment: {error}") from error
