"""What the options of this project name as code: all that a run's folder may choose from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.run.building import build, targets
from pipeline.run.schema import CONFIGS

# Every place that names code; a key of a dictionary cannot be written in another way.
TARGET = re.compile(r"_target_(?:\s*[:=]\s*[\"']?([\w.]+))?")


@cache
def shipped_targets() -> frozenset[str]:
    """Every ``_target_`` in the options of this project."""
    texts = (path.read_text(encoding="utf-8") for path in CONFIGS.rglob("*.yaml"))
    return frozenset(name for text in texts for name in TARGET.findall(text) if name)


def build_recorded(node: Mapping[str, Any], where: str) -> Any:
    """Build what the folder of a run describes, which can come from anybody.

    Args:
        node: ``_target_`` and the arguments of what it names.
        where: The file that it comes from, for messages.

    Raises:
        ConfigError: It names code that is no option of this project.
    """
    strange = [name for name in targets(node) if name not in shipped_targets()]
    if strange:
        raise ConfigError(
            f"{where}: names {', '.join(strange)}, which is no option of this project. A run's "
            "folder may not choose other code, since it can come from anybody."
        )
    return build(node, where)
