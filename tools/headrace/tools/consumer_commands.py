"""`headrace consumer`: look at the consumers of a running server's streams."""

import asyncio
from typing import Annotated, Any, Final

import typer

from headrace.tools import render
from headrace.tools.settings import JsonOption, settings_of
from headrace.tools.wire import connected

app = typer.Typer(no_args_is_help=True, help="Look at the consumers of a running server's streams.")

StreamArgument = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")]
_SHOWN_ELSEWHERE: Final = ["name", "durable_name", "ack_policy", "deliver_policy", "ack_wait", "metadata"]


@app.command("ls")
def list_consumers(context: typer.Context, stream: StreamArgument, as_json: JsonOption = False) -> None:
    """List a stream's consumers, with how far each has come."""

    async def run() -> list[dict[str, Any]]:
        async with connected(settings_of(context)) as api:
            return await api.pages(f"CONSUMER.LIST.{stream}", "consumers")

    consumers = asyncio.run(run())
    if as_json:
        render.print_json(consumers)
        return
    render.print_table(
        f"{len(consumers)} consumers of {stream}",
        ("name", "kind", "ack floor", "delivered", "pending", "ack pending", "redelivered", "waiting"),
        (
            (
                consumer["name"],
                _kind(consumer["config"]),
                consumer["ack_floor"]["stream_seq"],
                consumer["delivered"]["stream_seq"],
                consumer["num_pending"],
                consumer["num_ack_pending"],
                consumer["num_redelivered"],
                consumer["num_waiting"],
            )
            for consumer in consumers
        ),
    )


@app.command("info")
def show_consumer(
    context: typer.Context,
    stream: StreamArgument,
    name: Annotated[str, typer.Argument(metavar="CONSUMER", help="The consumer's name.")],
    as_json: JsonOption = False,
) -> None:
    """Show a consumer's configuration and progress."""

    async def run() -> dict[str, Any]:
        async with connected(settings_of(context)) as api:
            return await api.request(f"CONSUMER.INFO.{stream}.{name}")

    consumer = asyncio.run(run())
    if as_json:
        render.print_json(consumer)
        return
    config = consumer["config"]
    floor, delivered = consumer["ack_floor"], consumer["delivered"]
    render.print_fields(
        f"Consumer {name} of {stream}, created {consumer['created']}",
        [
            ("kind", _kind(config)),
            ("delivers", config["deliver_policy"]),
            ("acks", config["ack_policy"]),
            ("ack wait", render.duration(config.get("ack_wait"))),
            *render.config_fields(config, _SHOWN_ELSEWHERE),
            ("", ""),
            ("delivered", f"stream {delivered['stream_seq']}, consumer {delivered['consumer_seq']}"),
            ("ack floor", f"stream {floor['stream_seq']}, consumer {floor['consumer_seq']}"),
            ("pending", f"{consumer['num_pending']:,}"),
            ("ack pending", f"{consumer['num_ack_pending']:,}"),
            ("redelivered", f"{consumer['num_redelivered']:,}"),
            ("waiting pulls", f"{consumer['num_waiting']:,}"),
            *(
                [("paused for", render.duration(consumer["pause_remaining"]))]
                if consumer.get("paused")
                else []
            ),
        ],
    )


def _kind(config: dict[str, Any]) -> str:
    life = "durable" if config.get("durable_name") else "ephemeral"
    return f"{life} {'push' if config.get('deliver_subject') else 'pull'}"
