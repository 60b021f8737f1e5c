"""The configuration file's keys about operators, as pydantic models; `operator_options.py` makes options of them.

Source: the reference server 2.15's configuration, probed.
"""

import re
from typing import Annotated, Final, Literal, cast

from pydantic import BeforeValidator

from headrace.core.config.block import Block, Duration, as_list

_MEMORY: Final = re.compile(r"(MEM|MEMORY)\s*", re.IGNORECASE)
_URL: Final = re.compile(r'URL\(\s*"?([^\s"]*?)"?\s*\)\s*', re.IGNORECASE)
_HTTP: Final = re.compile(r"https?://[^/\s]+.*", re.IGNORECASE)


def _resolver(value: object) -> object:
    """Take `MEMORY` and `URL(...)` for the block that they are short for."""
    if isinstance(value, dict):
        block = cast("dict[str, object]", value)
        kind = block.get("type")
        return (
            {**block, "type": {"mem": "memory"}.get(kind.lower(), kind.lower())}
            if isinstance(kind, str)
            else block
        )
    if not isinstance(value, str):
        return value
    if _MEMORY.match(value):
        return {"type": "memory"}
    found = _URL.fullmatch(value)
    if found is None or not _HTTP.fullmatch(found[1]):
        raise ValueError(
            f"{value!r} is no resolver; expected MEMORY, URL(http://...), or a block with a type and a dir"
        )
    return {"type": "url", "url": found[1]}


class ResolverBlock(Block):
    type: Literal["memory", "url", "full", "cache"]
    url: str = ""
    dir: str = ""
    allow_delete: bool = False
    hard_delete: bool = False
    interval: Duration | None = None
    limit: int = 0
    ttl: Duration | None = None
    timeout: Duration | None = None


Resolver = Annotated[ResolverBlock, BeforeValidator(_resolver)]
Names = Annotated[list[str], BeforeValidator(as_list)]
