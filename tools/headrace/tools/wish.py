"""What flags and configuration file ask for, together: read at the start, and again at each reload."""

from dataclasses import dataclass

from headrace.core.log import FileSink, Sink, StreamSink
from headrace.core.options import ServerOptions
from headrace.tools.flags import Flags, apply_flags


@dataclass(frozen=True, slots=True)
class Wish:
    """Options, the name of the file's content ("" without a file), and what is to be warned of."""

    options: ServerOptions
    digest: str = ""
    warnings: tuple[str, ...] = ()


def read_wish(flags: Flags) -> Wish:
    """Read the file that the flags name, and lay the flags over it; raises ConfigError."""
    if flags.config is None:
        return Wish(apply_flags(flags, ServerOptions()))
    from headrace.core.config.load import load  # noqa: PLC0415  (pydantic takes 90 ms)

    loaded = load(flags.config)
    return Wish(apply_flags(flags, loaded.options), loaded.digest, loaded.warnings)


def open_sink(options: ServerOptions) -> Sink:
    """Open what the log is written to; raises OSError."""
    if not options.log_file:
        return StreamSink()
    return FileSink(options.log_file, size_max=options.log_size_max, count_max=options.log_count_max)
