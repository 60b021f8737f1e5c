"""Permissions: what users may publish, subscribe to and answer."""

import pytest

from headrace.core.auth.permissions import PermissionRules
from headrace.core.auth.replies import REPLIES_MAX, ReplyGrants
from headrace.core.engine.interface import Verdict
from headrace.core.options import Permissions, ResponseRule, SubjectRules

RULES = PermissionRules()


def publisher(allow: tuple[str, ...] | None, deny: tuple[str, ...] = ()) -> Permissions:
    return Permissions(publish=SubjectRules(allow, deny))


def subscriber(allow: tuple[str, ...] | None, deny: tuple[str, ...] = ()) -> Permissions:
    return Permissions(subscribe=SubjectRules(allow, deny))


def test_publishing_needs_an_allow_entry_and_no_deny_entry() -> None:
    permissions = publisher(("foo.*",), ("foo.bad",))
    assert RULES.may_publish(permissions, b"foo.a") is Verdict.ALLOWED
    assert RULES.may_publish(permissions, b"foo.bad") is Verdict.REFUSED
    assert RULES.may_publish(permissions, b"bar") is Verdict.REFUSED


def test_without_an_allow_list_everything_not_denied_may_be_published() -> None:
    permissions = publisher(None, ("secret.>",))
    assert RULES.may_publish(permissions, b"a") is Verdict.ALLOWED
    assert RULES.may_publish(permissions, b"secret.a") is Verdict.REFUSED


def test_an_empty_allow_list_permits_nothing() -> None:
    assert RULES.may_publish(publisher(()), b"a") is Verdict.REFUSED
    assert RULES.may_subscribe(subscriber(()), b"a", b"") is Verdict.REFUSED


def test_a_subscription_must_lie_within_an_allowed_pattern() -> None:
    permissions = subscriber(("foo.>",))
    assert RULES.may_subscribe(permissions, b"foo.*", b"") is Verdict.ALLOWED
    assert RULES.may_subscribe(permissions, b">", b"") is Verdict.REFUSED


def test_a_subscription_that_only_overlaps_a_denied_subject_is_filtered() -> None:
    permissions = subscriber(None, ("foo.secret",))
    assert RULES.may_subscribe(permissions, b"foo.secret", b"") is Verdict.REFUSED
    assert RULES.may_subscribe(permissions, b"foo.*", b"q") is Verdict.FILTERED
    assert not RULES.may_receive(permissions, b"foo.secret")
    assert RULES.may_receive(permissions, b"foo.open")


@pytest.mark.parametrize(
    ("subject", "queue", "expected"),
    [
        (b"q", b"", Verdict.REFUSED),  # only a queue entry names it
        (b"q", b"q1", Verdict.ALLOWED),
        (b"q", b"q2", Verdict.REFUSED),
        (b"v", b"v1.x", Verdict.ALLOWED),
        (b"v", b"v2.x", Verdict.REFUSED),
        (b"plain", b"", Verdict.ALLOWED),
        (b"plain", b"any", Verdict.ALLOWED),
        (b"both", b"", Verdict.ALLOWED),
        (b"both", b"b1", Verdict.ALLOWED),
        (b"both", b"other", Verdict.REFUSED),
    ],
)
def test_queue_entries_of_an_allow_list_admit_their_groups_only(
    subject: bytes, queue: bytes, expected: Verdict
) -> None:
    permissions = subscriber(("q q1", "v v1.*", "plain", "both", "both b1"))
    assert RULES.may_subscribe(permissions, subject, queue) is expected


def test_a_queue_entry_of_a_deny_list_forbids_its_group_only() -> None:
    permissions = subscriber(None, ("foo q1",))
    assert RULES.may_subscribe(permissions, b"foo", b"q1") is Verdict.REFUSED
    assert RULES.may_subscribe(permissions, b"foo", b"q2") is Verdict.ALLOWED
    assert RULES.may_subscribe(permissions, b"foo", b"") is Verdict.ALLOWED


def test_a_permission_set_can_be_forgotten() -> None:
    rules = PermissionRules()
    permissions = publisher(("a",))
    assert rules.may_publish(permissions, b"a") is Verdict.ALLOWED
    rules.forget(permissions)
    rules.forget(permissions)
    assert rules.may_publish(permissions, b"a") is Verdict.ALLOWED


def test_a_reply_is_granted_as_often_as_the_rule_says() -> None:
    grants = ReplyGrants(ResponseRule(max_messages=2, expires_ns=100))
    assert not grants.use(b"r", 0)
    grants.grant([b"r"], 0)
    assert grants.use(b"r", 10)
    assert grants.use(b"r", 20)
    assert not grants.use(b"r", 30)


def test_a_granted_reply_expires() -> None:
    grants = ReplyGrants(ResponseRule(max_messages=1, expires_ns=100))
    grants.grant([b"r"], 0)
    assert not grants.use(b"r", 100)
    assert len(grants) == 0


def test_grants_are_bounded_and_the_oldest_go_first() -> None:
    grants = ReplyGrants(ResponseRule(max_messages=1, expires_ns=1000))
    grants.grant([b"%d" % number for number in range(REPLIES_MAX)], 0)
    grants.grant([b"new"], 1)
    assert len(grants) == REPLIES_MAX
    assert not grants.use(b"0", 2)
    assert grants.use(b"new", 2)


def test_expired_grants_go_before_those_that_count() -> None:
    grants = ReplyGrants(ResponseRule(max_messages=1, expires_ns=1000))
    grants.grant([b"%d" % number for number in range(REPLIES_MAX)], 0)
    grants.grant([b"new"], 2000)
    assert len(grants) == 1
