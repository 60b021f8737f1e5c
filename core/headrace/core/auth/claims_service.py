"""Requests about accounts' tokens: what operators send to the system account while the server runs.

Updates are taken whichever resolver is configured; with a directory, tokens are kept there and may be looked up,
listed, packed for another server, and deleted by who holds an operator's key.

Source: the reference server 2.15, `$SYS.REQ.CLAIMS.*` and `$SYS.REQ.ACCOUNT.*.CLAIMS.*`.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from headrace.core import limits
from headrace.core.auth.account_directory import AccountDirectory, DirectoryRefused
from headrace.core.auth.jwt.account_claims import account_problem, decode_account
from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.operator_claims import OperatorClaims
from headrace.core.auth.jwt.token import decode_token
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.auth.operator_accounts import OperatorAccounts
from headrace.core.base.clock import Scheduler
from headrace.core.base.message import Batch, Message
from headrace.core.bus import Bus
from headrace.core.monitoring.texts import timestamp
from headrace.core.subject import tokens

UPDATES: Final = (
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE",
    "$SYS.ACCOUNT.*.CLAIMS.UPDATE",
)
LOOKUP: Final = "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"
PACK: Final = "$SYS.REQ.CLAIMS.PACK"
LIST: Final = "$SYS.REQ.CLAIMS.LIST"
DELETE: Final = "$SYS.REQ.CLAIMS.DELETE"

_OK: Final = 200
_FAILED: Final = 500
_FAILURE: Final = "jwt update resulted in error"
_LEGACY_TOKENS: Final = 5


class ClaimsHost(Protocol):
    """What the service needs of the server."""

    id: str
    name: str
    scheduler: Scheduler
    bus: Bus
    log: logging.Logger


class _Sink:
    """Hands each request to a function."""

    def __init__(self, answer: Callable[[Message], None]) -> None:
        self._answer = answer

    def on_messages(self, batch: Batch) -> None:
        for message in batch:
            self._answer(message)


class ClaimsService:
    """Answers requests about accounts' tokens in the system account."""

    def __init__(
        self,
        host: ClaimsHost,
        accounts: OperatorAccounts,
        operators: Sequence[OperatorClaims],
        system_account: str,
        directory: AccountDirectory | None,
    ) -> None:
        self._host = host
        self._accounts = accounts
        self._operators = operators
        self._system_account = system_account
        self._directory = directory
        self._sequence = 0

    def open(self) -> None:
        """Begin to listen."""
        answers: dict[str, Callable[[Message], None]] = dict.fromkeys(UPDATES, self._on_update)
        if self._directory is None:
            del answers[UPDATES[0]]
        else:
            answers |= {
                LOOKUP: self._on_lookup,
                PACK: self._on_pack,
                LIST: self._on_list,
                DELETE: self._on_delete,
            }
        for subject, answer in answers.items():
            self._host.bus.capture(self._system_account, subject.encode(), _Sink(answer))

    def _on_update(self, message: Message) -> None:
        text = message.payload.decode("ascii", "replace")
        parts = tokens(message.subject)
        named = ""
        if b"ACCOUNT" in parts:
            named = parts[2 if len(parts) == _LEGACY_TOKENS else 3].decode("utf-8", "replace")
        try:
            claims = decode_account(text)
        except BadToken as error:
            account = "n/a" if self._directory is not None else named
            self._tell(message, account, _FAILURE, "request body is empty" if not text else str(error))
            return
        account = named or claims.name
        if claims.name != account:
            self._tell(message, account, _FAILURE, "subject does not match jwt content")
            return
        if self._directory is not None:
            self._keep(message, self._directory, account, text)
            return
        if self._accounts.held(account) is None:
            self._tell(message, account, "jwt update skipped")
            return
        problem = self._accounts.update(account, text)
        self._tell(message, account, _FAILURE if problem else "jwt updated", problem)

    def _keep(self, message: Message, directory: AccountDirectory, account: str, text: str) -> None:
        claims = decode_account(text)
        problem = account_problem(claims)
        if problem:
            self._tell(message, account, "jwt validation failed", f"validation errors: [{problem}]")
            return
        if any(each.is_strict and claims.token.issuer == each.token.subject for each in self._operators):
            self._tell(message, account, _FAILURE, "operator requires issuer to be a signing key")
            return
        try:
            changed = directory.store(account, text)
        except (DirectoryRefused, OSError) as error:
            self._tell(message, account, _FAILURE, str(error))
            return
        if changed:
            problem = self._accounts.update(account, text)
            if problem:
                self._host.log.error('Update for account "%s" resulted in error %s', account, problem)
        self._tell(message, account, "jwt updated")

    def _on_lookup(self, message: Message) -> None:
        assert self._directory is not None, "lookups are listened for where there is a directory"
        account = tokens(message.subject)[3].decode("utf-8", "replace")
        self._answer(message, self._directory.load(account).encode())

    def _on_pack(self, message: Message) -> None:
        assert self._directory is not None, "packs are listened for where there is a directory"
        if message.payload != self._directory.digest:
            for line in self._directory.pack():
                self._answer(message, line.encode())
        self._answer(message, b"")

    def _on_list(self, message: Message) -> None:
        assert self._directory is not None, "lists are listened for where there is a directory"
        self._answer_json(message, {"data": list(self._directory.known())})

    def _on_delete(self, message: Message) -> None:
        directory = self._directory
        assert directory is not None, "deletes are listened for where there is a directory"
        subject = ""
        try:
            request = decode_token(message.payload.decode("ascii", "replace"))
            subject = request.subject
            names = request.body.texts("accounts")
            problem = self._delete_problem(directory, subject, request.issuer, names)
        except BadToken as error:
            problem, names = str(error), ()
        if problem:
            self._tell(message, "", f"delete accounts request by {subject} failed", problem)
            return
        failures: list[str] = []
        for name in names:
            try:
                directory.delete(name)
            except OSError as error:
                failures.append(str(error))
            else:
                self._accounts.remove(name)
        done = f"deleted {len(names) - len(failures)} accounts"
        if failures:
            done += f", failed for {len(failures)}"
        self._tell(message, "", done, "\n".join(failures))

    def _delete_problem(
        self, directory: AccountDirectory, subject: str, issuer: str, names: tuple[str, ...]
    ) -> str:
        if not directory.allows_delete:
            return "delete must be enabled in server config"
        if subject != issuer:
            return "not self signed"
        if not any(issuer in operator.trusted_keys for operator in self._operators):
            return "not trusted"
        if not names or not all(is_public(name, KeyKind.ACCOUNT) for name in names):
            return "malformed request"
        if self._system_account in names:
            return "not allowed to delete system account"
        return ""

    # answers

    def _tell(self, message: Message, account: str, text: str, problem: str = "") -> None:
        about: dict[str, Any] = {"account": account} if account else {}
        if problem:
            self._host.log.error("%s - %s - %s", text, account, problem)
            self._answer_json(
                message, {"error": {**about, "code": _FAILED, "description": f"{text} - {problem}"}}
            )
        else:
            self._host.log.debug("%s - %s", text, account)
            self._answer_json(message, {"data": {**about, "code": _OK, "message": text}})

    def _answer_json(self, message: Message, body: Mapping[str, Any]) -> None:
        self._sequence += 1
        server = {
            "name": self._host.name,
            "host": "",
            "id": self._host.id,
            "ver": limits.COMPATIBLE_VERSION,
            "jetstream": False,
            "flags": 0,
            "seq": self._sequence,
            "time": timestamp(self._host.scheduler.now_ns()),
        }
        self._answer(message, json.dumps({"server": server, **body}).encode())

    def _answer(self, message: Message, payload: bytes) -> None:
        if message.reply:
            self._host.bus.publish(self._system_account, message.reply, payload)
