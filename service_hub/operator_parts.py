"""Part of the composition root: what operators reach, as one application."""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from pydantic import JsonValue

from certs.tokens import issue_operator_token
from service_hub.arm.api import ArmApi
from service_hub.arm.inner_requests import InnerRequests
from service_hub.arm.routes import arm_routes
from service_hub.config import HubSettings
from service_hub.domain.service_accounts import ServiceAccount
from service_hub.hub_api.account_routes import AccountsApi, account_routes
from service_hub.hub_api.audit_routes import AuditApi, audit_routes
from service_hub.hub_api.authority_routes import AuthorityApi, authority_routes
from service_hub.hub_api.injection_routes import InjectionApi, injection_routes
from service_hub.hub_api.login_routes import LoginApi, login_routes
from service_hub.hub_api.looker_routes import looker_routes
from service_hub.hub_api.offer_routes import OffersApi, offer_routes
from service_hub.hub_api.openapi import with_document
from service_hub.hub_api.override_routes import OverrideApi, override_routes
from service_hub.hub_api.plan_routes import PlanDocumentsApi, plan_routes
from service_hub.hub_api.routes import HubApi, hub_routes
from service_hub.hub_api.server_routes import ServersApi, server_routes
from service_hub.hub_api.trust_routes import TrustApi, trust_routes
from service_hub.hub_api.waiting_routes import WaitingApi, waiting_routes
from service_hub.looker_parts import LookerParts
from service_hub.operator_door import Audit, GuardedRoute, add_guarded
from service_hub.ports.use_cases import OperatorTokens
from service_hub.services.approvals import ApprovalService
from service_hub.services.audit import AuditTrail
from service_hub.services.certificates import CertificateService
from service_hub.services.operator_signatures import SignatureSettings
from service_hub.services.plan_documents import PlanDocumentService
from service_hub.services.service_accounts import ServiceAccounts
from service_hub.trust import HubTrust
from service_hub.use_case_parts import Parts, UseCases
from service_shell.clock import Clock

SECRET_BYTES: Final = 32


def _trust_decisions(
    tokens: OperatorTokens, clock: Clock, *, cases: UseCases, parts: Parts
) -> TrustApi:
    """Return what operators do about certificates and who may have them."""
    connections = cases.registered.connections
    return TrustApi(
        vaults=cases.vaults,
        approvals=ApprovalService(
            reader=parts.store,
            committer=parts.committer,
            clock=clock,
            office=parts.office,
            connections=connections,
        ),
        certificates=CertificateService(
            reader=parts.store, committer=parts.committer, clock=clock, connections=connections
        ),
        signatures=SignatureSettings(reader=parts.store, committer=parts.committer),
        tokens=tokens,
        clock=clock,
    )


class _AccountTokens:
    """The TokenIssuer of the login routes."""

    def __init__(self, settings: HubSettings, trust: HubTrust, clock: Clock, tenant: str) -> None:
        self._key = trust.token_key
        self._issuer = settings.public_url
        self._clock = clock
        self._tenant = tenant

    def issue(self, account: ServiceAccount, now: datetime, lifetime: timedelta) -> str:
        """Return a token of a service account; what it may do is asked of the account."""
        return issue_operator_token(
            self._key,
            issuer=self._issuer,
            principal=account.name,
            role="Service account",
            now=now,
            lifetime=lifetime,
            token_id=self._clock.new_id(),
            account=account.id,
            tenant=self._tenant,
        )


def _login(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    cases: UseCases,
    parts: Parts,
    tokens: OperatorTokens,
) -> list[GuardedRoute]:
    """Return the routes by which accounts are kept and log in."""
    accounts = ServiceAccounts(
        reader=parts.store,
        committer=parts.committer,
        clock=clock,
        new_secret=lambda: secrets.token_urlsafe(SECRET_BYTES),
    )
    tenant = str(uuid5(NAMESPACE_URL, settings.public_url))
    login = LoginApi(
        accounts=accounts,
        vaults=cases.vaults,
        tokens=tokens,
        issuer=_AccountTokens(settings, trust, clock, tenant),
        clock=clock,
        public_url=settings.public_url,
        tenant=tenant,
    )
    kept = AccountsApi(accounts=accounts, tokens=tokens, clock=clock)
    return [*account_routes(kept), *login_routes(login)]


def _arm_api(
    settings: HubSettings, clock: Clock, cases: UseCases, tokens: OperatorTokens
) -> ArmApi:
    return ArmApi(
        vaults=cases.vaults,
        fabrics=cases.fabrics,
        policies=cases.policies,
        pairing=cases.pairing,
        protection=cases.protection,
        networks=cases.networks,
        storage=cases.storage,
        jobs=cases.jobs,
        events=cases.events,
        alerts=cases.alerts,
        servers=cases.servers,
        plans=cases.plans,
        tokens=tokens,
        clock=clock,
        public_url=settings.public_url,
        retry_after_seconds=settings.retry_after_seconds,
    )


def operator_application(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    cases: UseCases,
    parts: Parts,
    lookers: LookerParts,
    tokens: OperatorTokens,
    state: Callable[[], Mapping[str, JsonValue]],
) -> web.Application:
    """Return the routes of operators; `state` is what the hub says of itself to anybody."""
    hub_api = HubApi(
        vaults=cases.vaults,
        tokens=tokens,
        clock=clock,
        root_pem=lambda: trust.chains.roots_pem,
        state=state,
    )
    arm_api = _arm_api(settings, clock, cases, tokens)
    keys = cases.registered.keys
    servers_api = ServersApi(
        vaults=cases.vaults,
        keys=keys,
        servers=cases.servers,
        tokens=tokens,
        clock=clock,
        observation_interval=timedelta(seconds=settings.inventory_seconds),
    )
    cases.injections.through(InnerRequests(arm_api, lookers.previews))
    authority_api = AuthorityApi(door=servers_api, authorities=cases.registered.authorities)
    application = web.Application()
    # The ARM routes end with a catch-all: the hub's own come first.
    own = [
        *hub_routes(hub_api),
        *server_routes(servers_api),
        *trust_routes(_trust_decisions(tokens, clock, cases=cases, parts=parts)),
        *authority_routes(authority_api),
        *override_routes(OverrideApi(door=servers_api, protection=cases.protection)),
        *looker_routes(lookers.api(servers_api)),
        *injection_routes(InjectionApi(door=servers_api, injections=cases.injections)),
        *_login(settings, trust, clock, cases=cases, parts=parts, tokens=tokens),
        *waiting_routes(WaitingApi(door=servers_api, waiting=cases.waiting)),
        *audit_routes(AuditApi(door=servers_api, lines=parts.store)),
        *offer_routes(OffersApi(door=servers_api, networks=cases.networks)),
        *plan_routes(PlanDocumentsApi(door=servers_api, documents=_documents(cases, parts))),
    ]
    own = with_document(own, tokens, clock, settings.public_url)
    audit = Audit(AuditTrail(parts.committer, clock), clock)
    add_guarded(application, [*own, *arm_routes(arm_api)], audit)
    return application


def _documents(cases: UseCases, parts: Parts) -> PlanDocumentService:
    return PlanDocumentService(reader=parts.store, plans=cases.plans)
