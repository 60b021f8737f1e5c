"""The books of the demo: what became of every order, and whether a promise was broken.

An order is *acknowledged* when the publisher holds the server's pub ack, *delivered* when the consumer was handed it,
and *confirmed* when the consumer holds the server's answer to its ack. The two promises are: an acknowledged order
is delivered in the end, and a confirmed one is never delivered again.

What a client could not learn (the server died between its request and the answer) is no promise: such an order may
be stored or not, may come again or not.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """What is known of the orders, by number."""

    acknowledged: set[int] = field(default_factory=set[int])
    delivered: set[int] = field(default_factory=set[int])
    confirmed: set[int] = field(default_factory=set[int])
    delivery_count: int = 0
    confirmed_again: set[int] = field(default_factory=set[int])

    def note_acknowledged(self, order: int) -> None:
        self.acknowledged.add(order)

    def note_delivered(self, order: int) -> None:
        """The consumer was handed an order. If it had been confirmed before, a promise is broken."""
        self.delivery_count += 1
        if order in self.confirmed:
            self.confirmed_again.add(order)
        self.delivered.add(order)

    def note_confirmed(self, order: int) -> None:
        self.confirmed.add(order)

    @property
    def lost(self) -> set[int]:
        """Acknowledged orders that have not been delivered; final once nothing is outstanding."""
        return self.acknowledged - self.delivered

    @property
    def invented(self) -> set[int]:
        """Delivered orders that nobody has an acknowledgement for; final once the publisher is done."""
        return self.delivered - self.acknowledged

    @property
    def redelivery_count(self) -> int:
        """Deliveries beyond the first of each order: work that was not confirmed before a crash."""
        return self.delivery_count - len(self.delivered)

    @property
    def is_sound(self) -> bool:
        return not self.lost and not self.confirmed_again and not self.invented
