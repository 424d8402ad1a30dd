"""What is refused when settings become what a role is given."""

from __future__ import annotations

import pytest

from pipeline import wiring
from pipeline.settings import DeliverySettings, Settings, SettingsError
from schemas.tenant import Tenant
from sinks.smtp.reach import LiveReach


def live(tracking_url: str) -> Settings:
    tenant = Tenant(sending_domains=("brand.test",), return_path_domain="b.brand.test", tracking_url=tracking_url)
    return Settings(delivery=DeliverySettings(mode="live"), tenants={"default": tenant})


def test_live_mail_is_unsubscribed_from_by_https() -> None:
    assert isinstance(wiring.reach(live("https://t.brand.test")), LiveReach)
    with pytest.raises(SettingsError, match=r"tenants\.default\.tracking_url: live mail needs an https:// address"):
        wiring.reach(live("http://t.brand.test"))
