"""The addresses of a package, which follow from the repository that a workflow builds it in."""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<start>!?\[[^\]]*\]\()(?P<path>(?!https?:|mailto:|#)[^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    """Give the package its README and its links.

    In a workflow (`GITHUB_REPOSITORY`) links and images of the README lead to the repository at the
    commit that is built, since a package index shows the README alone; else they stay as they are.
    """

    def update(self, metadata: dict) -> None:
        """Add `readme` and `urls`."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("GITHUB_REPOSITORY")
        if repository:
            server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
            home = f"{server}/{repository}"
            at = os.environ.get("GITHUB_REF_NAME", "main")
            text = absolute(text, home, at)
            metadata["urls"] = {
                "Repository": home,
                "Documentation": f"{home}/tree/{at}/docs",
                "Changelog": f"{home}/blob/{at}/CHANGELOG.md",
                "Issues": f"{home}/issues",
            }
        else:
            metadata["urls"] = {}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute(text: str, home: str, at: str) -> str:
    """Return Markdown whose relative links and images lead to a repository.

    Args:
        text: The Markdown.
        home: Address of the repository.
        at: Branch, tag or commit.
    """

    def lead(link: re.Match) -> str:
        kind = "raw" if link["start"].startswith("!") else "blob"
        return f"{link['start']}{home}/{kind}/{at}/{link['path']})"

    return _LINK.sub(lead, text)
