"""`headrace-server`: flags, configuration, log, signals, and an exit code. What runs is in `tools/server.py`.

Whatever keeps the server from starting is told in one line that says what to do, within a second, with exit code 1.
A start imports only what its configuration uses; pydantic, for one, comes with a configuration file.

Signals, as the reference has them: SIGTERM and SIGINT stop (SIGTERM is ignored by a lame duck), SIGUSR2 begins lame
duck mode, SIGUSR1 opens the log file anew, SIGHUP reloads the configuration (`tools/reload.py`).

`HEADRACE_LOOP=asyncio|uvloop` chooses the event loop; the default is uvloop where it is installed.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from headrace.core.base.engine_choice import ENGINE
from headrace.core.base.version import VERSION
from headrace.core.errors import ConfigError
from headrace.core.limits import COMPATIBLE_VERSION
from headrace.core.log import FATAL, close_log, make_logger, reopen_log
from headrace.core.options import ServerOptions
from headrace.tools.compose import StartError
from headrace.tools.flags import Flags, help_text, parse_flags
from headrace.tools.run_files import PortsFile, write_pid_file
from headrace.tools.server import Server
from headrace.tools.wish import Wish, open_sink, read_wish

PROGRAM: Final = "headrace-server"
LOOP_VARIABLE: Final = "HEADRACE_LOOP"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    program = program_name(sys.argv[0])
    try:
        flags = parse_flags(sys.argv[1:] if arguments is None else arguments)
        if flags.is_help:
            _say(help_text(program))
            return 0
        if flags.is_version:
            _say(version_text(program))
            return 0
        if flags.signal is not None:
            from headrace.tools.signals import send_signal  # noqa: PLC0415  (a server has no use for it)

            send_signal(flags.signal)
            return 0
        if flags.is_test:
            return _check_configuration(program, flags)
        return _serve(program, flags)
    except (ConfigError, StartError) as error:
        for line in str(error).splitlines():
            _complain(f"{program}: {line}")
        return 1


def program_name(path: str) -> str:
    """Give the name that the command was called by; run as a module, it has none of its own."""
    name = os.path.basename(path)
    return PROGRAM if name in {"", "__main__.py", "serve.py"} else name


def version_text(program: str) -> str:
    """Give what `--version` prints."""
    return f"{program}: v{VERSION} ({ENGINE} engine, compatible with NATS {COMPATIBLE_VERSION})"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# what to run


def _check_configuration(program: str, flags: Flags) -> int:
    if flags.config is None:
        raise ConfigError("must specify [-c, --config] option to check configuration file syntax")
    wish = read_wish(flags)
    if wish.warnings:
        for warning in wish.warnings:
            _complain(f"{program}: {warning}")
        return 1
    _complain(f"{program}: configuration file {flags.config} is valid ({wish.digest})")
    return 0


# running


def _serve(program: str, flags: Flags) -> int:
    wish = read_wish(flags)
    for warning in wish.warnings:
        _complain(f"{program}: {warning}")
    options = wish.options
    try:
        sink = open_sink(options)
    except OSError as error:
        raise StartError(
            f"cannot open log file {options.log_file}: {error.strerror}; give another with --log"
        ) from error
    log = make_logger(
        sink,
        is_debug=options.debug,
        is_trace=options.trace,
        with_time=options.log_time,
        in_utc=options.log_utc,
    )
    _raise_open_files_limit()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(program, flags, wish, log))
    finally:
        close_log(log)


def _raise_open_files_limit() -> None:
    """Take as many open files as the system allows: each connection is one, each stream two."""
    try:
        import resource  # noqa: PLC0415  (not everywhere)
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    # Where the system refuses, what it gave is what there is.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> LoopFactory:
    name = os.environ.get(LOOP_VARIABLE, "")
    if name not in {"", "asyncio", "uvloop"}:
        raise StartError(f"{LOOP_VARIABLE}={name!r}: expected 'asyncio' or 'uvloop'")
    if name != "asyncio":
        try:
            import uvloop  # noqa: PLC0415  (not everywhere)
        except ImportError:
            if name == "uvloop":
                raise StartError(f"{LOOP_VARIABLE}=uvloop, but uvloop is not installed") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


class _RunFiles:
    """Pid file and ports file of a running server."""

    def __init__(self, program: str, server: Server) -> None:
        self._program = program
        self._server = server
        self._ports: PortsFile | None = None

    def place(self, options: ServerOptions) -> None:
        """Write both where these options want them; raises OSError."""
        if options.pid_file:
            write_pid_file(options.pid_file, os.getpid())
        self.remove()
        if options.ports_file_dir:
            server = self._server
            urls = {
                "nats": server.url,
                "monitoring": server.monitor_url,
                "websocket": server.websocket_url,
            }
            self._ports = PortsFile(options.ports_file_dir, self._program, os.getpid())
            self._ports.write({kind: [url] for kind, url in urls.items() if url})

    def remove(self) -> None:
        """Remove the ports file; the pid file stays, as with the reference."""
        if self._ports is not None:
            self._ports.remove()
            self._ports = None


def _reload(server: Server, flags: Flags, files: _RunFiles) -> str:
    """Read flags and file again, and take over what changed; give "", or why not."""
    if flags.config is None:
        server.log.error("Failed to reload server configuration: no configuration file was given")
        return "no configuration file was given"
    from headrace.tools.reload import Reloader  # noqa: PLC0415  (few servers reload)

    return Reloader(server, lambda: read_wish(flags), files.place).reload()


async def _run(program: str, flags: Flags, wish: Wish, log: logging.Logger) -> int:
    options = wish.options
    server = Server(options, log=log, config_digest=wish.digest)
    files = _RunFiles(program, server)
    server.on_reload = lambda: _reload(server, flags, files)
    _handle_signals(server, log)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: _log_bug(log, context))
    try:
        if options.pid_file:
            write_pid_file(options.pid_file, os.getpid())
        await server.start()
        files.place(options)
        gc.enable()
        gc.freeze()  # what a server has made by now stays; nobody needs to look through it again
    except (StartError, OSError) as error:
        log.log(FATAL, "%s", error)
        if options.log_file:
            _complain(f"{program}: {error}")
        await server.stop()
        return 1
    await server.wait_stopped()
    files.remove()
    return server.exit_code


def _log_bug(log: logging.Logger, context: dict[str, Any]) -> None:
    """Log what no code of ours caught: a bug. The loop has closed the connection concerned, and goes on."""
    error = context.get("exception")
    log.error("Internal error: %s", context.get("message"), exc_info=error)


def _handle_signals(server: Server, log: logging.Logger) -> None:
    loop = asyncio.get_running_loop()

    def on_stop(name: str, *, is_patient: bool) -> None:
        log.info('Trapped "%s" signal', name)
        if not (is_patient and server.is_lame_duck):
            server.request_stop()

    def on_lame_duck() -> None:
        log.info('Trapped "user defined signal 2" signal')
        server.enter_lame_duck()

    def on_reload() -> None:
        log.info('Trapped "hangup" signal')
        if server.on_reload is not None:
            server.on_reload()

    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGINT: lambda: on_stop("interrupt", is_patient=False),
        signal.SIGTERM: lambda: on_stop("terminated", is_patient=True),
    }
    if sys.platform != "win32":
        handlers |= {
            signal.SIGUSR2: on_lame_duck,
            signal.SIGHUP: on_reload,
            signal.SIGUSR1: lambda: reopen_log(log),
        }
    for number, handler in handlers.items():
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:  # Windows: Ctrl-C still ends the process
            return


if __name__ == "__main__":
    sys.exit(main())
