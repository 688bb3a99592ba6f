"""The edge in front of a running platform, and a client that sends whatever bytes it is told."""

import pytest

from bus.context import Platform
from bus.credentials import Credential
from edge.app import Running
from tests.edge.conftest import admin_key, anonymous, edge, http, key_of, settings, url, watch
from tests.security.raw import Raw

__all__ = ["admin_key", "anonymous", "edge", "http", "key_of", "settings", "url", "watch"]


@pytest.fixture
def raw(edge: Running, platform: Platform, admin_key: Credential) -> Raw:
    """Bytes to the running edge; the admin's key for those who want to be somebody."""
    return Raw(platform.settings.edge_port, admin_key.text)
