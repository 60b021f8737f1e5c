"""Random scripts: what one client asks of JetStream, step by step, the same for the same seed.

A script is JSON, so that it can be printed, cut shorter and kept. Its steps name streams `A` to `C` (with the subjects
`a.>` to `c.>`), consumers `c1` to `c4`, and no time or number that a server chooses; an ack names the how-manyth
delivery of its consumer it is for. The writer keeps a rough picture of what there is, so that most steps make sense;
what does not make sense must be refused alike.

What depends on chance or on how fast a server is stays out: names that servers choose, ends of short waits, which of
two listeners of a group is served.
"""

import random
from typing import Any, Final

from headrace.tools.oracle.normalise import Json

Step = dict[str, Any]
Script = list[Step]

SECOND: Final = 1_000_000_000
STREAMS: Final = ("A", "B", "C")
CONSUMERS: Final = ("c1", "c2", "c3", "c4")
TAILS: Final = ("x", "y", "z.1", "z.2", "w.v.u")
FILTERS: Final = ("x", "y", "z.*", "z.1", ">", "*", "q", "w.>")

KEPT: Final = (
    "durable_name",
    "ack_policy",
    "deliver_policy",
    "opt_start_seq",
    "deliver_subject",
    "deliver_group",
    "filter_subject",
    "filter_subjects",
)
"""Settings that an update leaves alone.

Filters among them: the reference does not count new messages any more once a consumer has none, and how far a consumer
has read over messages that are not its own is nobody's promise.
"""


class Writer:
    """Writes one script."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._steps: Script = []
        self._streams: dict[str, dict[str, Any]] = {}
        self._consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self._last: dict[str, int] = {}
        self._pull_count = 0
        self._batch_count = 0
        self._copies = False

    def write(self, count: int) -> Script:
        """Give a script of about `count` steps."""
        self._create_stream()
        if self._maybe(0.5):
            self._create_stream()
        for _ in range(self._chance.randint(0, 6)):
            self._publish()
        for _ in range(self._chance.randint(1, 2)):
            self._create_consumer()
        acts = (
            (self._publish, 26),
            (self._pull, 18),
            (self._ack, 20),
            (self._look, 10),
            (self._create_consumer, 5),
            (self._update_consumer, 3),
            (self._purge, 4),
            (self._delete_message, 4),
            (self._get, 5),
            (self._direct_get, 5),
            (self._update_stream, 4),
            (self._create_stream, 2),
            (self._delete, 1),
            (self._control_consumer, 3),
            (self._batch, 2),
            (self._listen, 2),
        )
        restart_at = self._chance.randint(8, count) if self._maybe(0.3) and not self._copies else -1
        for number in range(count):
            if number == restart_at:
                self._steps.append({"do": "restart"})
                self._look_at_all()
            (act,) = self._chance.choices([act for act, _ in acts], [weight for _, weight in acts])
            act()
        self._look_at_all()
        return self._steps

    # what there is

    def _maybe(self, share: float) -> bool:
        return self._chance.random() < share

    def _any_stream(self) -> str:
        if self._streams and not self._maybe(0.02):
            return self._chance.choice(sorted(self._streams))
        return self._chance.choice(STREAMS)

    def _any_consumer(self) -> tuple[str, str]:
        if self._consumers and not self._maybe(0.03):
            return self._chance.choice(sorted(self._consumers))
        return self._any_stream(), self._chance.choice(CONSUMERS)

    def _subject(self, stream: str) -> str:
        return f"{stream.lower()}.{self._chance.choice(TAILS)}"

    def _filter(self, stream: str) -> str:
        return f"{stream.lower()}.{self._chance.choice(FILTERS)}"

    def _sequence(self, stream: str) -> int:
        return max(0, self._chance.randint(0, self._last.get(stream, 0) + 2))

    def _near_last(self, stream: str) -> int:
        return max(0, self._last.get(stream, 0) + self._chance.choice((0, 0, 0, -1, 1)))

    def _api(self, subject: str, body: Json = None) -> None:
        self._steps.append({"do": "api", "subject": subject, "body": body})

    # streams

    def _stream_config(self, name: str) -> dict[str, Any]:
        root = name.lower()
        pick, maybe = self._chance.choice, self._maybe
        config: dict[str, Any] = {"name": name}
        if maybe(0.06) and self._streams:
            self._copies = True
            origin = self._any_stream()
            copied: dict[str, Any] = {"name": origin}
            if maybe(0.3):
                copied["filter_subject"] = self._filter(origin)
            if maybe(0.3):
                copied["opt_start_seq"] = self._chance.randint(1, 4)
            if maybe(0.5):
                config["mirror"] = copied
            else:
                config["sources"] = [copied]
        if "mirror" not in config:
            config["subjects"] = (
                [f"{root}.>"] if maybe(0.8) else [f"{root}.x", f"{root}.z.*"] if maybe(0.8) else [f"{root}.*"]
            )
        options: tuple[tuple[float, str, Any], ...] = (
            (0.5, "retention", pick(("limits", "limits", "interest", "workqueue"))),
            (0.3, "storage", pick(("file", "memory"))),
            (0.25, "max_msgs", pick((-1, 1, 3, 5, 8))),
            (0.15, "max_bytes", pick((-1, 200, 500, 2000))),
            (0.25, "max_msgs_per_subject", pick((-1, 1, 2, 3))),
            (0.1, "max_msg_size", pick((-1, 10, 60))),
            (0.1, "max_consumers", pick((-1, 1, 2))),
            (0.25, "discard", pick(("new", "old"))),
            (0.08, "discard_new_per_subject", True),
            (0.4, "allow_rollup_hdrs", True),
            (0.5, "allow_direct", True),
            (0.06, "deny_delete", True),
            (0.06, "deny_purge", True),
            (0.25, "allow_msg_ttl", True),
            (0.06, "subject_delete_marker_ttl", pick((SECOND * 60, SECOND, 5))),
            (0.1, "first_seq", pick((1, 5, 100))),
            (0.1, "metadata", {"colour": pick(("red", "blue"))}),
            (0.1, "description", "described"),
            (0.05, "compression", pick(("s2", "none"))),
            (0.08, "duplicate_window", pick((0, SECOND * 60, 50))),
            (0.06, "max_age", pick((SECOND * 3600, 5))),
            (0.08, "allow_msg_counter", True),
            (0.2, "allow_atomic", True),
            (0.06, "subject_transform", {"src": f"{root}.x", "dest": f"{root}.y"}),
            (0.06, "republish", {"src": f"{root}.>", "dest": f"again.{root}.>"}),
            (0.05, "consumer_limits", {"max_ack_pending": pick((2, 50))}),
            (0.04, "persist_mode", pick(("async", "default"))),
            (0.02, "sealed", True),
            (0.02, "mirror_direct", True),
        )
        config.update({key: value for share, key, value in options if maybe(share)})
        return config

    def _create_stream(self) -> None:
        name = self._chance.choice(STREAMS)
        if name in self._streams and self._maybe(0.7):
            return
        config = self._stream_config(name)
        if name in self._streams and self._maybe(0.5):
            config = self._streams[name]
        self._api(f"STREAM.CREATE.{name}", config)
        self._streams.setdefault(name, config)
        self._last.setdefault(name, config.get("first_seq", 1) - 1)

    def _update_stream(self) -> None:
        name = self._any_stream()
        new = self._stream_config(name)
        old = self._streams.get(name, new)
        changed = {
            **old,
            **{key: new[key] for key in new if key in old or self._maybe(0.4)},
        }
        if self._maybe(0.9):
            changed = {
                **changed,
                **{key: old[key] for key in ("retention", "storage", "mirror") if key in old},
            }
            changed.pop("sealed", None)
        self._api(f"STREAM.UPDATE.{name}", changed)
        if self._maybe(0.7):
            self._streams[name] = changed

    def _delete(self) -> None:
        if self._maybe(0.5):
            name = self._any_stream()
            self._api(f"STREAM.DELETE.{name}")
            self._streams.pop(name, None)
            for key in [key for key in self._consumers if key[0] == name]:
                del self._consumers[key]
        else:
            stream, consumer = self._any_consumer()
            self._api(f"CONSUMER.DELETE.{stream}.{consumer}")
            self._consumers.pop((stream, consumer), None)

    def _purge(self) -> None:
        name = self._any_stream()
        body: dict[str, Any] = {}
        if self._maybe(0.5):
            body["filter"] = self._filter(name)
        if self._maybe(0.3):
            body["seq"] = self._sequence(name)
        if self._maybe(0.25):
            body["keep"] = self._chance.randint(0, 3)
        self._api(f"STREAM.PURGE.{name}", body or None)
        self._api(f"STREAM.INFO.{name}", {"deleted_details": True})

    def _delete_message(self) -> None:
        name = self._any_stream()
        body: dict[str, Any] = {"seq": self._sequence(name)}
        if self._maybe(0.5):
            body["no_erase"] = True
        self._api(f"STREAM.MSG.DELETE.{name}", body)

    def _get(self) -> None:
        name = self._any_stream()
        self._api(f"STREAM.MSG.GET.{name}", self._get_request(name))

    def _get_request(self, name: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        kind = self._chance.randrange(10)
        if kind < 6:
            body["seq"] = self._sequence(name)
        if kind in {4, 6, 7}:
            body["next_by_subj"] = self._filter(name)
        if kind in {5, 8, 9}:
            body["last_by_subj"] = self._filter(name)
        return body

    def _direct_get(self) -> None:
        name = self._any_stream()
        kind = self._chance.randrange(5)
        subject = f"DIRECT.GET.{name}"
        body: dict[str, Any] = {}
        if kind == 0:
            subject += f".{self._subject(name)}"
        elif kind == 1:
            body["multi_last"] = [self._filter(name) for _ in range(self._chance.randint(1, 2))]
            if self._maybe(0.4):
                body["up_to_seq"] = self._sequence(name)
            if self._maybe(0.2):
                body["batch"] = self._chance.randint(1, 3)
        else:
            body = self._get_request(name)
            if self._maybe(0.5):
                body["batch"] = self._chance.randint(1, 5)
            if self._maybe(0.15):
                body["max_bytes"] = self._chance.choice((1, 60, 200))
            if self._maybe(0.15):
                body["no_hdr"] = True
        self._steps.append({"do": "direct", "subject": subject, "body": body or None})

    # publishing

    def _headers(self, stream: str, subject: str) -> dict[str, str]:
        pick = self._chance.choice
        options: tuple[tuple[float, str, str], ...] = (
            (0.06, "Nats-Expected-Stream", pick((stream, stream, "X"))),
            (0.1, "Nats-Expected-Last-Sequence", str(self._near_last(stream))),
            (0.08, "Nats-Expected-Last-Subject-Sequence", str(self._near_last(stream))),
            (0.03, "Nats-Expected-Last-Subject-Sequence-Subject", pick((subject, self._filter(stream)))),
            (0.04, "Nats-Expected-Last-Msg-Id", pick(("m1", "m2", "zz"))),
            (0.2, "Nats-Msg-Id", pick(("m1", "m2", "m3", "m4"))),
            (0.06, "Nats-TTL", pick(("1h", "never", "0", "bad", "90", "-1", "1ms"))),
            (0.06, "Nats-Rollup", pick(("sub", "all", "Sub", "none"))),
            (0.1, "Colour", pick(("red", "blue"))),
            (0.01, "Nats-Incr", "1"),
        )
        headers = {name: value for share, name, value in options if self._maybe(share)}
        if self._streams.get(stream, {}).get("allow_msg_counter") and self._maybe(0.8):
            headers["Nats-Incr"] = pick(("1", "+2", "-3", "x"))
        return headers

    def _publish(self) -> None:
        name = self._any_stream()
        subject = self._subject(name)
        headers = self._headers(name, subject)
        payload = "" if "Nats-Incr" in headers else "m" * self._chance.choice((0, 1, 1, 2, 5, 20, 70))
        self._steps.append({"do": "publish", "subject": subject, "headers": headers, "payload": payload})
        self._last[name] = self._last.get(name, 0) + 1

    def _batch(self) -> None:
        atomic = [name for name, config in sorted(self._streams.items()) if config.get("allow_atomic")]
        if not atomic and self._maybe(0.8):
            return
        name = self._chance.choice(atomic) if atomic else self._any_stream()
        self._batch_count += 1
        count = self._chance.randint(1, 4)
        for number in range(1, count + 1):
            headers = {"Nats-Batch-Id": f"b{self._batch_count}", "Nats-Batch-Sequence": str(number)}
            if number == count:
                headers["Nats-Batch-Commit"] = "1" if self._maybe(0.9) else "eob"
            if self._maybe(0.15):
                headers.update(self._headers(name, self._subject(name)))
            step = {"do": "publish", "subject": self._subject(name), "headers": headers, "payload": "b"}
            self._steps.append(step)
        self._last[name] = self._last.get(name, 0) + count

    # consumers

    def _consumer_config(self, stream: str, name: str) -> dict[str, Any]:
        pick, maybe = self._chance.choice, self._maybe
        config: dict[str, Any] = {"name": name}
        if maybe(0.75):
            config["durable_name"] = name
        else:
            config["inactive_threshold"] = 600 * SECOND
        is_workqueue = self._streams.get(stream, {}).get("retention") == "workqueue"
        policies = ("explicit",) * 8 + ("all", "none", "all", "none")
        config["ack_policy"] = "explicit" if is_workqueue and maybe(0.9) else pick(policies)
        if maybe(0.4):
            config["filter_subject"] = self._filter(stream)
        elif maybe(0.2):
            config["filter_subjects"] = [self._filter(stream) for _ in range(self._chance.randint(1, 2))]
        policy = (
            "all"
            if is_workqueue
            else pick(("all", "all", "all", "last", "new", "last_per_subject", "by_start_sequence"))
        )
        if policy != "all":
            config["deliver_policy"] = policy
        if policy == "by_start_sequence":
            config["opt_start_seq"] = self._chance.randint(1, 6)
        options: tuple[tuple[float, str, Any], ...] = (
            (0.2, "max_deliver", pick((1, 2, 3, -1))),
            (0.25, "max_ack_pending", pick((1, 2, 5, -1))),
            (0.06, "backoff", [60 * SECOND, 120 * SECOND]),
            (0.1, "headers_only", True),
            (0.1, "description", "described"),
            (0.06, "mem_storage", True),
            (0.06, "metadata", {"a": "b"}),
            (0.05, "sample_freq", pick(("100%", "50", "x"))),
            (0.04, "max_batch", 2),
            (0.04, "max_bytes", 100),
            (0.04, "max_waiting", 2),
            (0.03, "num_replicas", pick((1, 3, -1))),
            (0.02, "ack_wait", pick((-1, 90 * SECOND))),
        )
        config.update({key: value for share, key, value in options if maybe(share)})
        if maybe(0.22):
            config["deliver_subject"] = f"push.{stream}.{name}"
            if maybe(0.2):
                config["deliver_group"] = "g"
        elif maybe(0.08):
            config["priority_groups"] = ["g"]
            config["priority_policy"] = pick(("overflow", "prioritized"))
        return config

    def _create_consumer(self) -> None:
        stream, name = self._any_stream(), self._chance.choice(CONSUMERS)
        config = self._consumer_config(stream, name)
        if (stream, name) in self._consumers:
            old = self._consumers[stream, name]
            config = {key: value for key, value in config.items() if key not in KEPT}
            config.update({key: old[key] for key in KEPT if key in old})
        if "deliver_subject" in config and self._maybe(0.8):
            self._listen_for(config)
        action = self._chance.choice(("", "", "create", "update"))
        body: dict[str, Any] = {"stream_name": stream, "config": config}
        if (action and (stream, name) in self._consumers) or self._maybe(0.2):
            body["action"] = action
        self._api(f"CONSUMER.CREATE.{stream}.{name}", body)
        self._consumers.setdefault((stream, name), config)

    def _update_consumer(self) -> None:
        stream, name = self._any_consumer()
        old = self._consumers.get((stream, name))
        new = self._consumer_config(stream, name)
        if old is not None:
            settings = (
                new if self._maybe(0.5) else {**old, **{k: v for k, v in new.items() if self._maybe(0.3)}}
            )
            new = {key: value for key, value in settings.items() if key not in KEPT}
            new.update({key: old[key] for key in KEPT if key in old})
            if self._maybe(0.1):
                new[self._chance.choice(("ack_policy", "deliver_policy"))] = "none"
        self._api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": new})
        if self._maybe(0.5):
            self._consumers[(stream, name)] = new

    def _control_consumer(self) -> None:
        stream, name = self._any_consumer()
        kind = self._chance.randrange(4)
        if kind == 0:
            until = "2040-01-01T00:00:00Z" if self._maybe(0.5) else "0001-01-01T00:00:00Z"
            self._api(f"CONSUMER.PAUSE.{stream}.{name}", {"pause_until": until})
        elif kind == 1:
            body = {"seq": self._sequence(stream)} if self._maybe(0.6) else None
            self._api(f"CONSUMER.RESET.{stream}.{name}", body)
        else:
            self._api(f"CONSUMER.INFO.{stream}.{name}")

    def _listen(self) -> None:
        pushes = [config for _, config in sorted(self._consumers.items()) if "deliver_subject" in config]
        if not pushes:
            return
        config = self._chance.choice(pushes)
        if self._maybe(0.5):
            self._listen_for(config)
        else:
            self._steps.append({"do": "unlisten", "subject": config["deliver_subject"]})

    def _listen_for(self, config: dict[str, Any]) -> None:
        group = config.get("deliver_group", "")
        self._steps.append({"do": "listen", "subject": config["deliver_subject"], "group": group})

    def _pull(self) -> None:
        pulls = [key for key, config in sorted(self._consumers.items()) if "deliver_subject" not in config]
        stream, name = self._chance.choice(pulls) if pulls and self._maybe(0.95) else self._any_consumer()
        request: dict[str, Any] = {"batch": self._chance.choice((1, 1, 2, 3, 10))}
        if self._maybe(0.85):
            request["no_wait"] = True
        else:
            request["expires"] = 300 * SECOND
        if self._maybe(0.1):
            request["max_bytes"] = self._chance.choice((10, 60, 100, 400))
        groups = self._consumers.get((stream, name), {}).get("priority_groups")
        if groups and self._maybe(0.9):
            request["group"] = groups[0]
            if self._maybe(0.4):
                request[self._chance.choice(("min_pending", "min_ack_pending", "priority"))] = 2
        self._pull_count += 1
        step = {"do": "pull", "stream": stream, "consumer": name, "label": f"p{self._pull_count}"}
        self._steps.append({**step, "request": request})

    def _ack(self) -> None:
        stream, name = self._any_consumer()
        payload = self._chance.choice(
            ("+ACK",) * 6
            + ("-NAK", "-NAK", "+TERM", "+TERM no good", "+WPI", "", "junk", '-NAK {"delay": 600000000000}')
        )
        step = {"do": "ack", "stream": stream, "consumer": name, "which": self._chance.randrange(12)}
        self._steps.append({**step, "payload": payload})

    # looking

    def _look(self) -> None:
        name = self._any_stream()
        kind = self._chance.randrange(7)
        if kind < 2:
            self._api(f"STREAM.INFO.{name}", {"deleted_details": True, "subjects_filter": ">"})
        elif kind < 4:
            stream, consumer = self._any_consumer()
            self._api(f"CONSUMER.INFO.{stream}.{consumer}")
        elif kind == 4:
            self._api(f"CONSUMER.{self._chance.choice(('NAMES', 'LIST'))}.{name}")
        elif kind == 5:
            body = {"subject": self._filter(name)} if self._maybe(0.5) else None
            self._api(f"STREAM.{self._chance.choice(('NAMES', 'LIST'))}", body)
        else:
            self._api("INFO")

    def _look_at_all(self) -> None:
        for name in sorted(self._streams):
            self._api(f"STREAM.INFO.{name}", {"deleted_details": True, "subjects_filter": ">"})
        for stream, consumer in sorted(self._consumers):
            self._api(f"CONSUMER.INFO.{stream}.{consumer}")


def write_script(seed: int, count: int = 30) -> Script:
    """Give the script of a seed, of about `count` steps."""
    return Writer(seed).write(count)
