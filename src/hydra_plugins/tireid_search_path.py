"""A Hydra plugin that finds configs in the folder `conf/` of packages that the user trusts.

Hydra takes plugins from packages below `hydra_plugins` only.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from tireid.inference.trust import config_folders


class TrustedConfigs(SearchPathPlugin):
    """Adds `conf/` of each trusted package behind the configs of tireid."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders."""
        for package, folder in config_folders().items():
            search_path.append(provider=package, path=f"file://{folder}")
