"""A whole server loses its power in the middle of anything, again and again, and keeps every promise.

One seed decides all: the load, the change of the disk in which the power goes, and what the disk has kept of what was
not synced. Lives follow each other on one disk; a last one works everything off, and the ledger is audited.
"""

import json

import pytest

from headrace.core.base.chance import Chance
from headrace.storage.faulty_files import FaultyFiles, PowerLost
from headrace.testing import Refused, VirtualClient, VirtualDisk, VirtualServer
from headrace.tools.killloop.ledger import Ledger, StreamLedger, Violation, make_payload

LIVES = 4
CHANGES_MAX = 120
ROUNDS_MAX = 40
ACK_WAIT_S = 1
HONEST_SYNCS = 40
SEEDS_IN_CI = 25
SEEDS_IN_CAMPAIGN = 1000


class Life:
    """Clients of one life of the server; what they hear goes into the ledger."""

    def __init__(self, server: VirtualServer, ledger: Ledger, chance: Chance) -> None:
        self._server = server
        self._chance = chance
        self._ledger = ledger
        self.client: VirtualClient = server.connect()
        self._acks = self.client.subscribe("acks.*.*")
        self._messages = self.client.subscribe("pulled.*")
        self._confirmations = self.client.subscribe("confirmed.*.*")
        self.is_thorough = False

    def _stream(self, name: str) -> StreamLedger:
        return self._ledger.log if name == "LOG" else self._ledger.work

    def play(self) -> None:
        """One round: publish some, pull some, answer some, let a little time pass."""
        for name in ("LOG", "WORK"):
            for _ in range(self._chance.below(12)):
                number = self._stream(name).next_number()
                self.client.publish(f"{name}.a", make_payload(name, number), reply=f"acks.{name}.{number}")
            self.pull(name)
        self.listen()
        self._server.advance(self._chance.below(400) / 1000)
        self.listen()

    def pull(self, name: str) -> None:
        request = b'{"batch":20,"no_wait":true}'
        self.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{name}.{name}", request, reply=f"pulled.{name}")

    def listen(self) -> None:
        """Take note of what has come, and answer deliveries."""
        self.hear()
        for frame in self._messages.take():
            if frame.status:
                continue
            name, sequence = frame.reply.split(".")[2], int(frame.reply.split(".")[5])
            number = self._stream(name).on_delivery(frame.payload, sequence)
            draw = self._chance.below(10)
            if number is None or (draw > 7 and not self.is_thorough):
                continue
            self._stream(name).on_answer(number)
            reply = f"confirmed.{name}.{number}" if draw > 1 or self.is_thorough else ""
            self.client.publish(frame.reply, b"+ACK", reply=reply)
        self.hear()

    def hear(self) -> None:
        """Take note of acks and confirmations; they count if the server has sent them, whatever came after."""
        for frame in self._acks.take():
            _, name, number = frame.subject.split(".")
            answer = json.loads(frame.payload)
            if "error" not in answer:
                self._stream(name).on_ack(int(number), answer["seq"])
        for frame in self._confirmations.take():
            _, name, number = frame.subject.split(".")
            self._stream(name).on_confirmation(int(number))


def prepare(client: VirtualClient) -> None:
    for name, retention in (("LOG", "limits"), ("WORK", "workqueue")):
        config = {"name": name, "subjects": [f"{name}.*"], "retention": retention}
        client.api(f"STREAM.CREATE.{name}", config)
        consumer = {"durable_name": name, "ack_policy": "explicit", "ack_wait": ACK_WAIT_S * 10**9}
        client.api(f"CONSUMER.CREATE.{name}.{name}", {"stream_name": name, "config": consumer})


def work_off(server: VirtualServer, ledger: Ledger, chance: Chance) -> None:
    """Deliver and confirm all that is left, then audit."""
    life = Life(server, ledger, chance)
    life.is_thorough = True
    for _ in range(500):
        for name in ("LOG", "WORK"):
            life.pull(name)
        life.listen()
        infos = [life.client.api(f"CONSUMER.INFO.{name}.{name}") for name in ("LOG", "WORK")]
        if not any(info["num_pending"] or info["num_ack_pending"] for info in infos):
            break
        server.advance(0.3)
    state = life.client.api("STREAM.INFO.LOG")["state"]
    ledger.log.check_stored(read_all(life.client, state["first_seq"], state["last_seq"]))
    ledger.work.check_emptied(life.client.api("STREAM.INFO.WORK")["state"]["messages"])


def read_all(client: VirtualClient, first: int, last: int) -> dict[int, bytes]:
    config = {"name": "AUDIT", "ack_policy": "none", "deliver_subject": "audit"}
    audit = client.subscribe("audit")
    client.api("CONSUMER.CREATE.LOG.AUDIT", {"stream_name": "LOG", "config": config})
    stored = {int(frame.reply.split(".")[5]): frame.payload for frame in audit.take()}
    assert all(first <= sequence <= last for sequence in stored)
    return stored


def power_cuts(seed: int) -> Ledger:
    """Play one seed: some lives that end in a power cut, and an audit."""
    chance = Chance(seed)
    ledger = Ledger()
    disk = VirtualDisk(seed)
    server = VirtualServer(seed=seed, disk=disk)
    prepare(server.connect())
    for _ in range(LIVES):
        life = Life(server, ledger, chance)
        disk.files.cut_at(1 + chance.below(CHANGES_MAX))
        try:
            for _ in range(ROUNDS_MAX):
                life.play()
        except PowerLost:
            life.hear()
        server.crash(power_cut=True)
        server.restart()
    work_off(server, ledger, chance)
    return ledger


@pytest.mark.parametrize("seed", range(SEEDS_IN_CI))
def test_no_promise_is_broken_by_power_cuts(seed: int) -> None:
    ledger = power_cuts(seed)
    assert ledger.findings == [], f"seed {seed}"
    assert ledger.log.acked
    assert ledger.work.confirmed


def test_the_audit_sees_a_disk_that_lies_about_its_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would prove nothing. The first syncs are honest: a store that was never made is another story."""
    honest = FaultyFiles.sync
    syncs = 0

    def lying(files: FaultyFiles, handle: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs < HONEST_SYNCS:
            honest(files, handle)

    monkeypatch.setattr(FaultyFiles, "sync", lying)
    lost = 0
    for seed in range(5):
        syncs = 0
        try:
            lost += power_cuts(seed).count(Violation.LOST)
        except Refused:
            # a whole stream went with its folder
            lost += 1
    assert lost > 0


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_promise_is_broken_by_many_power_cuts() -> None:
    broken = {
        seed: ledger.findings for seed in range(SEEDS_IN_CAMPAIGN) if (ledger := power_cuts(seed)).findings
    }
    assert broken == {}
