"""The configuration file's blocks about who may come in, and what those may do, as pydantic models.

Source: the reference server 2.15's configuration, probed.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, model_validator

from headrace.core import limits
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.config.block import Block, Seconds, as_list
from headrace.core.subject import is_valid

CONNECTION_TYPES: Final = frozenset(
    {"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"}
)


def _publish_subject(value: str) -> str:
    if not is_valid(value.encode()):
        raise ValueError(f'subject "{value}" is not a valid subject')
    return value


def _subscribe_subject(value: str) -> str:
    subject, *queue = value.split()
    if len(queue) > 1 or not is_valid(subject.encode()):
        raise ValueError(f'subject "{value}" is not a valid subject, or a subject and a queue')
    return " ".join((subject, *queue))


def _rules(value: object) -> object:
    """Take a subject, or a list of them, for what is allowed."""
    return {"allow": value} if isinstance(value, str | list) else value


def _response_rule(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return value


def _user_key(value: str) -> str:
    if value and not is_public(value, KeyKind.USER):
        raise ValueError("Not a valid public nkey for a user")
    return value


def _connection_type(value: str) -> str:
    if value.upper() not in CONNECTION_TYPES:
        raise ValueError(
            f'unknown connection type "{value}"; expected one of {", ".join(sorted(CONNECTION_TYPES))}'
        )
    return value.upper()


PublishSubject = Annotated[
    str, BeforeValidator(lambda value: _publish_subject(value) if isinstance(value, str) else value)
]
SubscribeSubject = Annotated[
    str, BeforeValidator(lambda value: _subscribe_subject(value) if isinstance(value, str) else value)
]


class PublishRules(Block):
    allow: Annotated[list[PublishSubject], BeforeValidator(as_list)] | None = None
    deny: Annotated[list[PublishSubject], BeforeValidator(as_list)] = []


class SubscribeRules(Block):
    allow: Annotated[list[SubscribeSubject], BeforeValidator(as_list)] | None = None
    deny: Annotated[list[SubscribeSubject], BeforeValidator(as_list)] = []


class ResponseRules(Block):
    aliases = {
        "max_msgs": "max",
        "max_messages": "max",
        "max_responses": "max",
        "ttl": "expires",
        "expiration": "expires",
    }

    max: int | None = None
    expires: Seconds | None = None


class PermissionRules(Block):
    aliases = {"pub": "publish", "import": "publish", "sub": "subscribe", "export": "subscribe"}

    publish: Annotated[PublishRules, BeforeValidator(_rules)] | None = None
    subscribe: Annotated[SubscribeRules, BeforeValidator(_rules)] | None = None
    allow_responses: Annotated[ResponseRules | None, BeforeValidator(_response_rule)] = None


class UserEntry(Block):
    aliases = {
        "username": "user",
        "pass": "password",
        "permission": "permissions",
        "authorization": "permissions",
        "allowed_connection_types": "connection_types",
        "clients": "connection_types",
    }

    user: str = ""
    password: str = ""
    nkey: Annotated[str, AfterValidator(_user_key)] = ""
    permissions: PermissionRules | None = None
    connection_types: Annotated[
        list[Annotated[str, AfterValidator(_connection_type)]], BeforeValidator(as_list)
    ] = []

    @model_validator(mode="after")
    def _refuse_two_ways_to_be_known(self) -> "UserEntry":
        if not self.user and not self.nkey:
            raise ValueError("User entry requires a user")
        if self.nkey and (self.user or self.password):
            raise ValueError("Nkey users do not take usernames or passwords")
        return self


class AuthCallout(Block):
    aliases = {"acc": "account", "users": "auth_users", "key": "xkey"}

    issuer: str = ""
    account: str = limits.GLOBAL_ACCOUNT
    auth_users: list[str] = []
    xkey: str = ""
    allowed_accounts: list[str] = []

    @model_validator(mode="after")
    def _refuse_what_cannot_answer(self) -> "AuthCallout":
        if not self.issuer:
            raise ValueError("Authorization callouts require an issuer to be specified")
        if not is_public(self.issuer, KeyKind.ACCOUNT):
            raise ValueError(f'Expected callout user to be a valid public account nkey, got "{self.issuer}"')
        if not self.auth_users:
            raise ValueError("Authorization callouts require authorized users to be specified")
        if self.xkey and not is_public(self.xkey, KeyKind.CURVE):
            raise ValueError(f'Expected callout xkey to be a valid public xkey, got "{self.xkey}"')
        return self


class Authorization(Block):
    aliases = {
        "auth_hook": "auth_callout",
        "username": "user",
        "pass": "password",
        "permissions": "default_permissions",
        "default_permission": "default_permissions",
    }

    user: str | None = None
    password: str | None = None
    token: str | None = None
    timeout: Seconds | None = None
    users: list[UserEntry] | None = None
    default_permissions: PermissionRules | None = None
    auth_callout: AuthCallout | None = None

    @model_validator(mode="after")
    def _refuse_two_ways_to_log_in(self) -> "Authorization":
        has_single = self.user is not None or self.password is not None
        if has_single and self.token is not None:
            raise ValueError("Cannot have a user/pass and token")
        if self.users and has_single:
            raise ValueError("Can not have a single user/pass and a users array")
        if self.users and self.token is not None:
            raise ValueError("Can not have a token and a users array")
        if self.password is not None and self.user is None:
            raise ValueError("a password needs its user")
        return self
