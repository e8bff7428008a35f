"""How far it is between places of the world, as somebody measured it: round trips between regions of one large cloud.

Source: medians (p50) of TCP round trips between the regions of Amazon Web Services as published by CloudPing
(https://www.cloudping.co), in the copy that the commonware estimator carries (commonwarexyz/monorepo,
examples/estimator/src/p50.json, 2025). Milliseconds, in the direction from the row to the column; the other one differs
by a percent or two. One way is taken to be half of it. Between two nodes of one region it is the region's own figure,
which is mostly the time of the measuring program.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["REGIONS", "one_way_ms"]

REGIONS: Final = MappingProxyType(
    {
        "frankfurt": "eu-central-1",
        "zurich": "eu-central-2",
        "london": "eu-west-2",
        "paris": "eu-west-3",
        "stockholm": "eu-north-1",
        "virginia": "us-east-1",
        "oregon": "us-west-2",
        "sao-paulo": "sa-east-1",
        "mumbai": "ap-south-1",
        "singapore": "ap-southeast-1",
        "hong-kong": "ap-east-1",
        "tokyo": "ap-northeast-1",
        "sydney": "ap-southeast-2",
    }
)
"""name here -> name at the cloud, in the order of the table"""

_ROUND_TRIP_MS: Final = (
    (4.0, 9.3, 17.6, 12.2, 22.9, 92.7, 142.4, 204.0, 129.3, 160.4, 193.1, 227.0, 251.3),
    (3.4, 20.1, 12.3, 28.7, 92.0, 143.5, 203.5, 116.5, 155.4, 188.6, 221.9, 246.6),
    (3.3, 11.0, 31.6, 77.5, 128.9, 186.8, 117.6, 169.5, 202.4, 212.9, 266.1),
    (3.3, 32.3, 84.2, 135.7, 195.6, 109.5, 167.2, 199.2, 219.6, 280.4),
    (3.3, 112.2, 154.7, 223.0, 148.9, 180.5, 212.8, 246.7, 271.2),
    (5.5, 64.4, 115.3, 192.5, 219.6, 198.8, 149.7, 199.8),
    (3.2, 174.6, 222.2, 160.2, 144.9, 98.2, 141.0),
    (3.3, 301.8, 327.7, 308.4, 258.9, 312.4),
    (3.2, 63.8, 97.0, 133.3, 154.7),
    (3.7, 37.2, 70.9, 94.8),
    (2.8, 51.6, 128.0),
    (2.8, 106.9),
    (4.1,),
)
"""A row holds its own region first, then those that follow it."""


def one_way_ms(one: str, other: str) -> float | None:
    """Half a round trip between two regions, in either order; None if one of them is not in the table."""
    places = {name: place for place, name in enumerate(REGIONS)}
    if one not in places or other not in places:
        return None
    first, second = sorted((places[one], places[other]))
    return _ROUND_TRIP_MS[first][second - first] / 2
