"""The URLs and return paths in our mail: where a token stands in them. One place, for who writes and who reads them."""

from __future__ import annotations

RETURN_PATH = "b+"
"""The local part of a return path before its token: `b+TOKEN@bounces.brand.test`."""
OPEN_PATH = "/o/"
CLICK_PATH = "/c/"
UNSUBSCRIBE_PATH = "/u/"


def open_url(base: str, token: str) -> str:
    """`base` is the tenant's tracking_url, without a trailing slash."""
    return f"{base}{OPEN_PATH}{token}"


def click_url(base: str, token: str) -> str:
    return f"{base}{CLICK_PATH}{token}"


def unsubscribe_url(base: str, token: str) -> str:
    """For people (GET asks for a confirmation) and for RFC 8058's one-click POST alike."""
    return f"{base}{UNSUBSCRIBE_PATH}{token}"
