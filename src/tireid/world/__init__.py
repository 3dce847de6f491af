"""The embedded data set: made people, their pictures and captions, written as files."""

from tireid.world.build import ensure_world
from tireid.world.settings import WorldSettings

__all__ = ["WorldSettings", "ensure_world"]
