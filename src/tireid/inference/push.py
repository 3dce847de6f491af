"""Push an export to the model hub, where `tireid.load("hf://OWNER/NAME")` finds it."""

import re
from pathlib import Path
from typing import Any

from tireid.console import say

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_push(name: Any, private: Any) -> None:
    """Check, before anything is written, that an export can be pushed.

    Args:
        name: `OWNER/NAME` of the repository.
        private: Whether it is private.

    Raises:
        ValueError: If one of them is something else, or there is no token of the hub.
    """
    from huggingface_hub import get_token  # takes a second to import

    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"push: expected OWNER/NAME, got {name!r}; set push=OWNER/NAME")
    if not isinstance(private, bool):
        raise ValueError(f"private: expected true or false, got {private!r}")
    if get_token() is None:
        raise ValueError(
            f"push={name}: expected a token of the hub that may write, got none; run "
            "`hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, name: str, *, private: bool) -> None:
    """Upload an export to a repository of the model hub, which is made if it is missing.

    Args:
        folder: The export.
        name: `OWNER/NAME` of the repository.
        private: Whether it is private.

    Raises:
        ValueError: If there is a public repository of that name and it should be private.
        OSError: If the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi(library_name="tireid")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if private and not api.model_info(name).private:
            raise ValueError(
                f"push={name}: expected a private repository, got a public one; set private=false "
                f"to write to it, or choose another name; the export is in {folder}"
            )
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        kind = "private" if private else "public"
        sizes = [f"{n} {p.stat().st_size / 1e3:,.0f} kB" for n, p in zip(names, files, strict=True)]
        say(f"pushing to {name} ({kind}): {', '.join(sizes)}")
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=names,
            commit_message="Export of tireid",
        )
    except OSError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OSError(f"push={name}: {reason}; the export is in {folder}") from error
    say(f'pushed: tireid.load("hf://{name}")')
