"""Model files on a hub or behind a URL: only their heads are fetched, a few at a time, and kept for the next run."""

from fitcheck.models.hub.cache import DiskCache
from fitcheck.models.hub.repository import (
    HubName,
    HubRepository,
    UrlFiles,
    file_name_of,
    parse_hub_name,
    parse_hub_url,
)
from fitcheck.models.hub.settings import HubSettings
from fitcheck.models.hub.transport import Traffic, Transport

__all__ = [
    "DiskCache",
    "HubName",
    "HubRepository",
    "HubSettings",
    "Traffic",
    "Transport",
    "UrlFiles",
    "file_name_of",
    "parse_hub_name",
    "parse_hub_url",
]
