"""`mailriver campaign`: publish a campaign's content, once it is known that it can be mailed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from pipeline import campaigns, wiring
from pipeline.cli.output import Failure, JsonOption, print_fields, print_json
from pipeline.cli.session import kafka, loaded
from schemas.address import parse_mailbox
from schemas.codec import decode
from schemas.state import CampaignSet, CampaignStatus
from topics.claims import ClaimsAway
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import CAMPAIGNS
from topics.view import View

_PATIENCE_S = 15.0

app = typer.Typer(no_args_is_help=True, help="Campaigns: one content for many recipients.")


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="campaign")


@app.callback()
def _group() -> None:
    """Keeps `create` a command of its own, as long as it is the only one."""


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="TOML: docs/sending.md says what it may hold.")],
    check: Annotated[bool, typer.Option("--check", help="Compile and try everything, publish nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Compile a campaign from files, and publish it; sends may name it from then on."""
    settings = loaded()
    try:
        campaign = campaigns.read(file, wiring.claims(settings))
    except campaigns.CampaignError as error:
        raise Failure(str(error), status=2) from None
    except ClaimsAway as error:
        raise Failure(str(error)) from None
    tenant = settings.tenants.get(campaign.tenant)
    domain = parse_mailbox(campaign.from_).address.domain
    if tenant is None:
        raise Failure(f"{file}: tenant {campaign.tenant} is not configured", status=2)
    if domain not in tenant.sending_domains:
        raise Failure(f"{file}: {domain} is not a sending domain of tenant {tenant.name}", status=2)
    if campaign.pool not in settings.pools:
        raise Failure(f"{file}: pool {campaign.pool} is not configured", status=2)
    if not check:
        _publish(file, campaign)
    shown = {
        "campaign_id": campaign.campaign_id,
        "version": campaign.event_id,
        "html": len(campaign.html or ""),
        "attachments": len(campaign.attachments),
        "published": not check,
    }
    print_json(shown) if json else print_fields(shown)


def _publish(file: Path, campaign: CampaignSet) -> None:
    with kafka() as cluster, closing(View(cluster, CAMPAIGNS, _campaign, name="cli")) as view:
        if not view.wait_ready(_PATIENCE_S):
            raise Failure("Kafka does not answer: what campaigns there are could not be read")
        known = view.get(campaign.key)
        if known is not None and known.status is not CampaignStatus.DRAFT and known.event_id != campaign.event_id:
            raise Failure(f"{file}: campaign {campaign.campaign_id} is {known.status}, and its content fixed")
        with Publisher(cluster, "cli", settings={"message.timeout.ms": int(_PATIENCE_S * 1000)}) as publisher:
            publisher.publish(campaign)
            publisher.flush()


def _campaign(record: Record) -> CampaignSet | None:
    event = decode(record.value, record.headers)
    return event if isinstance(event, CampaignSet) else None
