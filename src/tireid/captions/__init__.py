"""What an English caption says of a person: sex, hair, clothes, shoes, bags, things held."""

from tireid.captions.attributes import Description, Thing
from tireid.captions.parser import parse

__all__ = ["Description", "Thing", "parse"]
