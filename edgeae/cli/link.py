"""The verbs `publish` and `subscribe`."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import UsageError

if TYPE_CHECKING:
    from edgeae import link

__all__ = ["publish", "subscribe"]

Broker = Annotated[
    str,
    typer.Option(
        metavar="mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]",
        envvar="EDGEAE_BROKER",
        help="The MQTT broker. The variable keeps a password out of the list of processes.",
    ),
]
Prefix = Annotated[str, typer.Option(help="What the topics begin with.")]


def publish(
    sources: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="Images, or a folder of them.")
    ],
    broker: Broker = "localhost",
    device: Annotated[
        str | None,
        typer.Option(help="This sender's name. By default the host's.", show_default=False),
    ] = None,
    prefix: Prefix = "edgeae",
    model: Annotated[str, typer.Option(help="A bundled codec or a directory.")] = "photo-codec",
    quality: Annotated[float, typer.Option(min=1, max=9, help="1 (smallest) to 9.")] = 5,
    max_payload_bytes: Annotated[
        int, typer.Option(min=1, help="Larger files go in packets of at most this.")
    ] = 1 << 17,
    threads: options.Threads = 1,
) -> None:
    """Send images to an MQTT broker as codes, each at least once (extra mqtt)."""
    from edgeae import loading, media
    from edgeae.image.codec import ImageCodec
    from edgeae.link import Publisher

    address = _broker(broker)
    paths = _images(sources)
    codec = loading.load(model, threads=threads)
    if not isinstance(codec, ImageCodec):
        raise UsageError(f"--model is {model}, expected a codec of images")
    name = device or socket.gethostname()
    with Publisher(
        address, device=name, prefix=prefix, max_payload_bytes=max_payload_bytes
    ) as publisher:
        for path in paths:
            message = publisher.image(codec, media.read_image(path), quality=quality)
            terminal.say(f"{path} -> {name}/{message}")


def subscribe(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A folder.")],
    broker: Broker = "localhost",
    device: Annotated[
        str | None, typer.Option(help="One device. By default all.", show_default=False)
    ] = None,
    prefix: Prefix = "edgeae",
    client_id: Annotated[
        str | None,
        typer.Option(
            help="A name by which the broker keeps, for a week, what comes while this is away.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A codec's directory beside the bundled ones.", show_default=False),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(help="End when for so many seconds nothing came.", show_default=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after so many messages.", show_default=False)
    ] = None,
) -> None:
    """Write what devices send to an MQTT broker: images, codes, messages.csv and alarms.csv."""
    from edgeae.link import Decoder, FolderWriter, Subscriber

    address = _broker(broker)
    with (
        Subscriber(address, device=device, prefix=prefix, client_id=client_id) as subscriber,
        FolderWriter(target, Decoder(model or ())) as writer,
    ):
        for number, message in enumerate(subscriber.messages(timeout_s=idle), 1):
            path = writer.write(message)
            terminal.say(f"{message.device}/{message.name} -> {path or target / 'alarms.csv'}")
            if number == count:
                subscriber.acknowledge(message)
                break


def _broker(text: str) -> link.Broker:
    from edgeae.link import Broker

    broker: Broker = options.checked(Broker.parse, text)
    return broker


def _images(sources: list[Path]) -> list[Path]:
    """The images among files and in folders. Raises MediaError if a folder holds none."""
    from edgeae.errors import MediaError
    from edgeae.media import IMAGE_SUFFIXES

    found = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = sorted(
            Path(folder, name)
            for folder, _, names in os.walk(source)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        )
        if not inside:
            raise MediaError(f"{source} holds no image")
        found += inside
    return found
