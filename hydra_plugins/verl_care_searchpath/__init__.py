"""Puts verl_care's configs on Hydra's search path, so that `--config-name care_<run>` is found from anywhere.

Every Hydra program of this environment imports this file, and an exception here breaks all of them:
it imports hydra and nothing else.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class VerlCareSearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="verl_care", path="pkg://verl_care.config")
