"""Mend captions as the tokenizer of CLIP does first: entities of HTML, curly quotes, ligatures."""

from tokenizers import Regex, Tokenizer, normalizers

_CHANGES = {
    "&(?:amp;){1,2}": "&",  # the first, so that one behind it is an entity again
    "&lt;": "<",
    "&gt;": ">",
    "&nbsp;": " ",
    "&(?:quot|#34|ldquo|rdquo);|[\u201c-\u201f]": '"',
    "&(?:apos|#39|lsquo|rsquo);|[\u02bc\u2018-\u201b]": "'",
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
}


def mend_captions(tokenizer: Tokenizer) -> None:
    """Let a tokenizer mend captions before all else; it is saved with it.

    CLIP's official code does this by `ftfy` and by unescaping twice. What is left of that are
    letters that were decoded wrongly, full-width ones, and rarer entities, which stay as they are.

    Args:
        tokenizer: The tokenizer, which is changed.
    """
    mending = [normalizers.Replace(Regex(old), new) for old, new in _CHANGES.items()]
    then = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*mending, *then])
