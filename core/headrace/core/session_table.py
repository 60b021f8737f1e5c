"""What a session does with each kind of event in each phase: the table that `Session` asks before it acts."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from headrace.core.engine.interface import (
    Connect,
    Crossed,
    Event,
    Gathered,
    NotConnected,
    PeerError,
    PeerInfo,
    Phase,
    Pinged,
    PublishRefused,
    Refused,
    Traced,
)


class Answer(Enum):
    """What a session does with an event."""

    ACT = "act"
    IGNORE = "ignore"
    CANNOT_BE = "cannot be"  # the engine does not report this in this phase


EVENTS: Final[frozenset[type[Event]]] = frozenset(
    {Connect, NotConnected, PeerInfo, PeerError, Pinged, Refused, PublishRefused, Gathered, Crossed, Traced}
)

NEXT: Final[Mapping[Phase, Mapping[type[Event], Answer]]] = {
    Phase.AWAITING_CONNECT: {
        Connect: Answer.ACT,
        NotConnected: Answer.ACT,
        Refused: Answer.ACT,
        PeerInfo: Answer.CANNOT_BE,
        PeerError: Answer.CANNOT_BE,
        Pinged: Answer.CANNOT_BE,
        PublishRefused: Answer.CANNOT_BE,
        Gathered: Answer.CANNOT_BE,
        Crossed: Answer.CANNOT_BE,
        Traced: Answer.CANNOT_BE,
    },
    Phase.OPEN: {
        Connect: Answer.ACT,
        NotConnected: Answer.CANNOT_BE,
        Refused: Answer.ACT,
        PeerInfo: Answer.ACT,
        PeerError: Answer.ACT,
        Pinged: Answer.ACT,
        PublishRefused: Answer.ACT,
        Gathered: Answer.ACT,
        Crossed: Answer.IGNORE,  # the sink has been called
        Traced: Answer.ACT,
    },
    # What a client sent before it was closed still reaches the sinks; everything else is moot.
    Phase.CLOSED: {**dict.fromkeys(EVENTS, Answer.IGNORE), Gathered: Answer.ACT},
}
