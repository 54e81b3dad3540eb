"""Bodies of the real service for a VMM-to-VMM vault; `~` stands for the vault's id.

From published recordings (2017; names changed). Of the job, what 2021 changed is changed: `type`,
no outer state, camelCase in affectedObjectDetails (recorded.md, section 0).
"""

import json
from pathlib import Path
from typing import Any, Final

RECORDED: Final[dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
