"""Auth callout: another service, a client of this server, decides who may come in.

The server publishes a request, signed with its own key, to `$SYS.REQ.USER.AUTH` in the callout's account: who
asks, what it brought, and a fresh user key. The service answers with a user's token for that key, signed by
the issuer that is configured (or, in operator mode, by an account); account and permissions are that token's.
No answer in time, an empty one or one that is not right in every respect: the client is refused. Users whom
the configuration lists as the callout's own are let in without being asked about, and may not publish
requests themselves.

Requests and answers may be sealed with curve keys.

Source: the reference server 2.15, auth callout.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from headrace.core import headers, limits
from headrace.core.accounts import Accounts
from headrace.core.auth.authenticator import HIDDEN
from headrace.core.auth.jwt.account_claims import ALL, AccountClaims
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.token import JWT_PREFIX, Token, TokenKind, decode_kind, encode_token
from headrace.core.auth.jwt.user_claims import UserClaims, decode_user, problem_of
from headrace.core.auth.keys import BadBox, BadKey, CurveKey, KeyKind, SecretBytes, SigningKey, is_public
from headrace.core.auth.login import Admission, Identity, Login
from headrace.core.auth.operator_login import expiry_of, granted_limits
from headrace.core.base.clock import NS_PER_S, Scheduler
from headrace.core.base.deadlines import Deadlines
from headrace.core.base.message import Batch
from headrace.core.bus import Bus
from headrace.core.errors import AuthorizationViolation, ProtocolError, UserAuthenticationRevoked
from headrace.core.link import Link
from headrace.core.options import Permissions, ServerOptions, SubjectRules

if TYPE_CHECKING:
    from headrace.core.auth.operator_accounts import OperatorAccounts

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
AUDIENCE: Final = "nats-authorization-request"
XKEY_HEADER: Final = b"Nats-Server-Xkey"
_INBOX: Final = "$SYS._INBOX."

Then = Callable[[Identity | None], None]


class CalloutHost(Protocol):
    """What a callout needs of the server."""

    id: str
    name: str
    scheduler: Scheduler
    deadlines: Deadlines
    bus: Bus
    accounts: Accounts
    log: logging.Logger
    server_key: SigningKey | None

    @property
    def secret_bytes(self) -> SecretBytes: ...


@dataclass(frozen=True, slots=True)
class CalledOut:
    """What somebody entered with whom the service let in: the token that it gave."""

    claims: UserClaims
    account: str


@dataclass(frozen=True, slots=True)
class _Rules:
    """One callout: where it listens, who is its own, whose signature counts, and for which accounts."""

    account: str
    issuer: str
    auth_users: tuple[str, ...]
    allowed_accounts: tuple[str, ...]
    xkey: str


class _Refused(Exception):
    """Why a login is refused; for the log."""


class Callout:
    """Login rules with a service behind them. `base` decides about the callout's own users."""

    def __init__(
        self,
        base: Admission,
        options: ServerOptions,
        host: CalloutHost,
        operator_accounts: "OperatorAccounts | None",
    ) -> None:
        self._base = base
        self._options = options
        self._host = host
        self._operator_accounts = operator_accounts
        self._curve = CurveKey.fresh(host.secret_bytes)

    @property
    def is_required(self) -> bool:
        return self._base.is_required or self._options.callout is not None

    @property
    def has_no_auth_user(self) -> bool:
        return self._base.has_no_auth_user

    @property
    def needs_nonce(self) -> bool:
        return self._base.needs_nonce

    def without_credentials(self, link: Link) -> Identity | None:
        return self._base.without_credentials(link)

    def admit(self, login: Login, then: Then) -> None:
        def on_decided(identity: Identity | None) -> None:
            rules = self._rules_for(identity)
            if rules is None:
                then(identity)
                return
            user = identity.user if identity is not None else raw_user(login)
            if user in rules.auth_users:
                then(_without_requests(identity, rules))
            else:
                _Question(self._host, self._options, rules, login, self._curve, self._operator_accounts).ask(
                    lambda answer: then(_without_requests(answer, rules))
                )

        self._base.admit(login, on_decided)

    def review(self, identity: Identity) -> Identity | ProtocolError:
        entered = identity.credential
        if not isinstance(entered, CalledOut):
            found = self._base.review(identity)
            if isinstance(found, ProtocolError):
                return found
            rules = self._rules_for(found)
            return found if rules is None else _without_requests(found, rules) or found
        if self._operator_accounts is None:
            return identity if entered.account in self._host.accounts else AuthorizationViolation()
        account = self._operator_accounts.held(entered.account)
        token = entered.claims.token
        if account is None:
            return AuthorizationViolation()
        return UserAuthenticationRevoked() if account.is_revoked(token.subject, token.issued_at) else identity

    def _rules_for(self, identity: Identity | None) -> _Rules | None:
        """Give the callout that is asked about a client of whom the base says this."""
        if self._operator_accounts is not None:
            claims = None if identity is None else self._operator_accounts.held(identity.account)
            external = None if claims is None else claims.external
            if claims is None or external is None or not external.auth_users:
                return None
            return _Rules(
                claims.name, claims.name, external.auth_users, external.allowed_accounts, external.xkey
            )
        wanted = self._options.callout
        if wanted is None:
            return None
        account = limits.GLOBAL_ACCOUNT if identity is None else identity.account
        if (
            account != limits.GLOBAL_ACCOUNT
            and wanted.allowed_accounts
            and account not in wanted.allowed_accounts
        ):
            return None
        return _Rules(wanted.account, wanted.issuer, wanted.auth_users, wanted.allowed_accounts, wanted.xkey)


def raw_user(login: Login) -> str:
    """Name a client by what it says of itself."""
    connect = login.connect
    return connect.nkey or connect.user or (HIDDEN if connect.auth_token else "")


class _Question:
    """One request to the service, until it is answered or its time is over."""

    def __init__(
        self,
        host: CalloutHost,
        options: ServerOptions,
        rules: _Rules,
        login: Login,
        curve: CurveKey,
        operator_accounts: "OperatorAccounts | None",
    ) -> None:
        assert host.server_key is not None, "a server that may be asked to call out has a key"
        self._host = host
        self._options = options
        self._rules = rules
        self._login = login
        self._curve = curve
        self._operator_accounts = operator_accounts
        self._key = host.server_key
        self._user = SigningKey.fresh(KeyKind.USER, host.secret_bytes).public
        self._inbox = _INBOX + host.secret_bytes(12).hex()
        self._then: Then | None = None

    def ask(self, then: Then) -> None:
        """Publish the request; `then` is called once."""
        host, rules = self._host, self._rules
        if rules.account not in host.accounts:
            host.log.warning(f'No valid account "{rules.account}" for auth callout request')
            then(None)
            return
        self._then = then
        request = encode_token(self._claims(), self._key, now_s=self._now_s()).encode()
        block = b""
        if rules.xkey:
            request = self._curve.seal(request, rules.xkey)
            block = headers.encode([(XKEY_HEADER, self._curve.public.encode())])
        self._registration = host.bus.capture(rules.account, self._inbox.encode(), self)
        deadline_ns = host.scheduler.monotonic_ns() + self._options.auth_timeout_ns
        host.deadlines.set(("callout", self._inbox), deadline_ns, self._on_timeout)
        host.bus.publish(rules.account, SUBJECT.encode(), request, reply=self._inbox.encode(), headers=block)

    def on_messages(self, batch: Batch) -> None:
        """Take the answer; only the first one counts."""
        if self._then is None:
            return
        self._host.deadlines.clear(("callout", self._inbox))
        try:
            claims = self._answered(batch[0].payload)
            self._with_account(claims)
        except (_Refused, BadToken) as error:
            self._refuse(str(error))

    def _on_timeout(self, _now_ns: int) -> None:
        self._host.log.debug(
            f'Authorization callout response not received in time on account "{self._rules.account}"'
        )
        self._finish(None)

    def _refuse(self, reason: str) -> None:
        self._host.log.warning(reason[:1].upper() + reason[1:])
        self._finish(None)

    def _finish(self, identity: Identity | None) -> None:
        then, self._then = self._then, None
        self._registration.close()
        if then is not None:
            then(identity)

    def _now_s(self) -> int:
        return self._host.scheduler.now_ns() // NS_PER_S

    # the answer

    def _answered(self, payload: bytes) -> UserClaims:
        """Read the answer, and the user's token in it; says why it does not count."""
        account = self._rules.account
        if not payload:
            raise _Refused(f'auth callout violation: "no reason supplied" on account "{account}"')
        is_sealed = bool(self._rules.xkey) and not payload.startswith(JWT_PREFIX.encode())
        if is_sealed:
            try:
                payload = self._curve.open(payload, self._rules.xkey)
            except (BadBox, BadKey) as error:
                raise _Refused(
                    f'error decrypting auth callout response on account "{account}": {error}'
                ) from error
        response = decode_kind(payload.decode("ascii", "replace"), TokenKind.AUTHORIZATION_RESPONSE)
        self._check_response(response, is_sealed=is_sealed)
        user = decode_user(response.body.text("jwt"))
        problem = problem_of(user, self._now_s())
        if problem:
            raise _Refused(f"Error validating user JWT: {problem}")
        if user.token.subject != self._user:
            raise _Refused(
                f'Expected authorized user of "{self._user}" but got "{user.token.subject}" on account "{account}"'
            )
        if user.limits.is_proxy_required:
            raise _Refused("proxy required")
        if user.limits.allowed_types is None:
            raise _Refused(f'authorized user on account "{account}" using invalid connection type')
        return user

    def _check_response(self, response: Token, *, is_sealed: bool) -> None:
        body = response.body
        error, issuer_account = body.text("error"), body.text("issuer_account")
        problem = response.time_problem(self._now_s())
        if bool(error) == bool(body.text("jwt")):
            problem = "Only Error or Jwt can be set" if error else "Error or Jwt is required"
        elif issuer_account and not is_public(issuer_account, KeyKind.ACCOUNT):
            problem = "issuer_account is not an account public key"
        if problem:
            raise _Refused(f"authorization response had validation errors: {problem}")
        if response.subject != self._user:
            raise _Refused("auth callout violation: auth callout response is not for expected user")
        if response.audience != self._host.id:
            raise _Refused("auth callout violation: auth callout response is not for server")
        if error:
            raise _Refused(f"auth callout service returned an error: {error}")
        if self._operator_accounts is not None and not is_sealed:
            account = self._operator_accounts.held(self._rules.account)
            signer = issuer_account or response.issuer
            if account is None or signer not in {account.name, *account.signing_keys}:
                raise _Refused("auth callout signing key is unknown")

    def _with_account(self, claims: UserClaims) -> None:
        """Find the account that the user is put into, and finish."""
        rules = self._rules
        if self._operator_accounts is None:
            if claims.issuer_account:
                raise _Refused(
                    f'error non operator mode account "{rules.account}": attempted to use issuer_account'
                )
            if claims.token.issuer != rules.issuer:
                raise _Refused(
                    f'wrong issuer for auth callout response on account "{rules.account}", '
                    f'expected "{rules.issuer}" got "{claims.token.issuer}"'
                )
            name = claims.token.audience
            if name not in self._host.accounts:
                raise _Refused(
                    f'no valid account "{name}" for auth callout response on account "{rules.account}"'
                )
            self._finish(self._identity(claims, name))
            return
        if claims.account != rules.issuer and not {claims.account, ALL} & set(rules.allowed_accounts):
            raise _Refused(
                f'account "{claims.token.issuer}" not permitted as valid account option for auth callout '
                f'for account "{rules.account}"'
            )
        self._operator_accounts.find(claims.account, lambda account: self._on_account(claims, account))

    def _on_account(self, claims: UserClaims, account: AccountClaims | None) -> None:
        assert self._operator_accounts is not None, "accounts are looked for in operator mode"
        if account is None:
            self._refuse(f'no valid account "{claims.account}" for auth callout response')
            return
        try:
            granted = granted_limits(claims, account, self._operator_accounts)
            identity = self._identity(granted, account.name)
        except BadToken as error:
            self._refuse(str(error))
            return
        if identity.permissions is None:
            identity = replace(identity, permissions=account.default_permissions)
        self._finish(identity)

    def _identity(self, granted: UserClaims, account: str) -> Identity:
        token = granted.token
        return Identity(
            account=account,
            user=token.name or raw_user(self._login),
            permissions=granted.limits.permissions,
            expires_ns=expiry_of(granted, self._host.scheduler.now_ns()),
            credential=CalledOut(granted, account),
            name_tag=token.name,
            tags=token.tags,
        )

    # the request

    def _claims(self) -> dict[str, Any]:
        host, login = self._host, self._login
        connect = login.connect
        server: dict[str, Any] = {
            "name": host.name,
            "host": self._options.host,
            "id": host.id,
            "version": limits.COMPATIBLE_VERSION,
            "tags": list(self._options.tags),
            "xkey": self._curve.public if self._rules.xkey else "",
        }
        client: dict[str, Any] = {
            "host": login.host,
            "id": login.connection_id,
            "user": raw_user(login),
            "name": connect.name,
            "kind": "Client",
            "type": "websocket" if login.link.is_websocket else "nats",
            "nonce": login.nonce if connect.sig else "",
        }
        said: dict[str, Any] = {
            "jwt": connect.jwt,
            "nkey": connect.nkey,
            "sig": connect.sig,
            "auth_token": connect.auth_token,
            "user": connect.user,
            "pass": connect.password,
            "name": connect.name,
            "lang": connect.lang,
            "version": connect.version,
        }
        body: dict[str, Any] = {
            "server_id": _told(server),
            "user_nkey": self._user,
            "client_info": _told(client),
            "connect_opts": {**_told(said), "protocol": connect.protocol},
            "type": TokenKind.AUTHORIZATION_REQUEST.value,
            "version": 2,
        }
        if login.link.is_secured:
            body["client_tls"] = _tls(login.link)
        return {
            "aud": AUDIENCE,
            "exp": self._now_s() + self._options.auth_timeout_ns // NS_PER_S,
            "sub": self._rules.issuer,
            "nats": body,
        }


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is empty."""
    return {name: value for name, value in facts.items() if value}


def _tls(link: Link) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": link.tls_version, "cipher": link.tls_cipher}
    certificate = link.certificate
    if certificate is not None and certificate.chain:
        facts["verified_chains"] = [[ssl.DER_cert_to_PEM_cert(each) for each in certificate.chain]]
    elif certificate is not None and certificate.der:
        facts["certs"] = [ssl.DER_cert_to_PEM_cert(certificate.der)]
    return _told(facts)


def _without_requests(identity: Identity | None, rules: _Rules) -> Identity | None:
    """Keep who is in the callout's account from sending requests of its own."""
    if identity is None or identity.account != rules.account:
        return identity
    held = identity.permissions or Permissions()
    if SUBJECT in held.publish.deny:
        return identity
    publish = SubjectRules(held.publish.allow, (*held.publish.deny, SUBJECT))
    return replace(identity, permissions=replace(held, publish=publish))
