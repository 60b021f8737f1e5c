"""All that one stream copies: nothing, the origin of a mirror, or its sources."""

from typing import TYPE_CHECKING, Any

from headrace.jetstream.mirrors.follower import Follower
from headrace.jetstream.mirrors.origins import index_name
from headrace.jetstream.mirrors.positions import Positions
from headrace.jetstream.mirrors.remote import RemoteFollower, is_remote
from headrace.jetstream.models.stream_config import StreamSource
from headrace.storage.interface import StorageError

if TYPE_CHECKING:
    from headrace.jetstream.streams.stream import Stream


class Upstreams:
    """The followers of one stream, as its configuration wants them."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._mirror: Follower | None = None
        self._sources: dict[str, Follower] = {}
        self._positions: Positions | None = None

    def open(self) -> None:
        """Follow."""
        self.on_config()

    def on_config(self) -> None:
        """The configuration is a new one: end what it no longer names, begin what it names for the first time."""
        config = self._stream.config
        if config.mirror is None and self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        elif config.mirror is not None and self._mirror is None:
            self._mirror = self._follower(config.mirror, None)
            self._mirror.open()
        wanted = {index_name(source): source for source in config.sources}
        for name in [name for name in self._sources if name not in wanted]:
            self._sources.pop(name).close()
        if wanted and self._positions is None:
            self._positions = Positions(self._stream.log, in_memory=config.in_memory)
        for name, source in wanted.items():
            if name not in self._sources:
                self._sources[name] = self._follower(source, self._positions)
                self._sources[name].open()

    def _follower(self, source: StreamSource, positions: Positions | None) -> Follower:
        kind = RemoteFollower if is_remote(self._stream.context, source) else Follower
        return kind(self._stream, source, positions)

    def close(self) -> None:
        """Follow no more; what was reached is kept."""
        followers = [*self._sources.values()] + ([self._mirror] if self._mirror is not None else [])
        self._sources.clear()
        self._mirror = None
        for follower in followers:
            follower.close()

    def before_removal(self) -> None:
        """Messages that say where they came from are about to go: write down what they say."""
        if self._positions is None:
            return
        try:
            self._positions.save_all()
        except StorageError as error:
            self._stream.context.log.warning(
                f"{self._stream!r}: positions of its sources not written: {error}"
            )

    def info(self) -> dict[str, Any]:
        """Give the part of stream info that tells of origins."""
        told: dict[str, Any] = {}
        if self._mirror is not None:
            told["mirror"] = self._mirror.info()
        if self._sources:
            told["sources"] = [follower.info() for follower in self._sources.values()]
        return told
