"""The synthetic data set: people, their images and captions, drawn and written as files."""

from tireid.world.build import ensure_world
from tireid.world.settings import WorldSettings

__all__ = ["WorldSettings", "ensure_world"]
