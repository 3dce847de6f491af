"""Mend captions as CLIP's tokenizer does first: entities, wrong decoding, quotes, ligatures."""

from tokenizers import Regex, Tokenizer, normalizers

_CHANGES = {
    "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\ufeff]": "",
    "&(?:amp;){1,2}": "&",  # before the others, so that one behind it is an entity again
    "&lt;": "<",
    "&gt;": ">",
    "&nbsp;": " ",
    # UTF-8 that was read as Windows-1252; dashes look like quotes there.
    "&(?:ndash|#8211);|\u00e2\u20ac\u201c": "\u2013",
    "&(?:mdash|#8212);|\u00e2\u20ac\u201d": "\u2014",
    "&(?:hellip|#8230);|\u00e2\u20ac\u00a6": "\u2026",
    "&(?:eacute|#233);|\u00c3\u00a9": "\u00e9",
    "&(?:quot|#34|#x22|[lr]dquo|#822[01]);|\u00e2\u20ac[\u0153\u009d]|[\u201c-\u201f]": '"',
    "&(?:apos|#39|#x27|[lr]squo|#821[67]);|\u00e2\u20ac[\u02dc\u2122]|[\u02bc\u2018-\u201b]": "'",
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
}


def mend_captions(tokenizer: Tokenizer) -> None:
    """Let a tokenizer mend captions before all else; it is saved with it.

    CLIP's official code does this by `ftfy` and by unescaping twice. What is left of that are
    rarer entities and rarer letters that were decoded wrongly, and full-width ones: they stay.

    Args:
        tokenizer: The tokenizer, which is changed.
    """
    mending = [normalizers.Replace(Regex(old), new) for old, new in _CHANGES.items()]
    then = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*mending, *then])
