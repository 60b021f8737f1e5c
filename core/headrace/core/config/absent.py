"""What the reference server has and this version has not: configuration keys and flags, refused by name.

Nothing is ignored in silence: a key that asks for TLS, or restricts a user, and does nothing would be a trap. When a
feature arrives, its keys leave these tables.
"""

from collections.abc import Iterable
from typing import Final


def _named(keys: str, feature: str) -> Iterable[tuple[str, str]]:
    return ((key, feature) for key in keys.split())


KEYS: Final[dict[str, str]] = dict(
    pair
    for keys, feature in (
        ("cluster routes", "clustering"),
        ("gateway gateways", "gateways"),
        ("remotes isolate_leafnode_interest", "leaf nodes"),
        ("mqtt", "MQTT"),
        ("ocsp ocsp_cache ocsp_peer", "OCSP, which Python's ssl lacks"),
        ("cert_store cert_match_by cert_match ca_certs_match cert_match_skip_invalid", "certificate stores"),
        ("verify_cert_and_check_known_urls", "clustering"),
        ("resolver_tls", "TLS to the account resolver beyond the system's certificates"),
        ("proxy_protocol proxies proxy_required", "the PROXY protocol"),
        ("trace_headers", "the choice of what is logged of the protocol"),
        ("syslog remote_syslog", "syslog"),
        ("prof_port prof_block_rate", "Go profiling"),
        ("write_timeout", "the choice of what a write timeout does"),
        ("disable_sublist_cache no_sublist_cache", "switching the subject cache off"),
        ("connect_error_reports reconnect_error_reports", "clustering"),
        ("no_system_account no_system no_sys_acc", "running without a system account"),
        ("default_js_domain", "JetStream domains of leaf nodes"),
        ("feature_flags", "feature flags"),
        ("max_traced_msg_len", "shortening traced messages"),
        ("ek encryption_key key prev_key prev_ek prev_encryption_key cipher tpm", "encryption of the store"),
        ("unique_tag extension_hint max_outstanding_catchup cluster_traffic", "JetStream clustering"),
        ("max_ha_assets max_request_batch duplicate_window", "this JetStream limit"),
        ("request_queue_limit info_queue_limit", "this JetStream limit"),
        ("meta_compact meta_compact_size meta_compact_sync max_concurrent_io", "this JetStream limit"),
    )
    for pair in _named(keys, feature)
)
"""Key, wherever it stands, to what it belongs to."""

UNSERVED_LEAFNODES: Final = (
    "leafnodes: this version of Headrace does not have leaf nodes; "
    "no server can connect as one, and nothing listens"
)
"""What is said of a block that only invites leaf nodes: clients are served the same without."""

FLAGS: Final[dict[str, str]] = dict(
    pair
    for flags, feature in (
        ("cluster cluster_listen cluster_name cluster_advertise routes", "clustering"),
        ("no_advertise connect_retries", "clustering"),
        ("help_tls", "a help on TLS alone; see docs/configuration.md"),
        ("s syslog r remote_syslog", "syslog"),
        ("max_traced_msg_len", "shortening traced messages"),
        ("profile", "Go profiling"),
    )
    for pair in _named(flags, feature)
)
"""Flag, without its dashes, to what it belongs to."""


def refusal(feature: str) -> str:
    """Say that this version lacks `feature`."""
    return f"this version of Headrace does not have {feature}"
