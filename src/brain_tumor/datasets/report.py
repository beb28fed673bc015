"""Reports as self-contained HTML pages, cards and sheets as Markdown."""

import re
from pathlib import Path
from typing import Any, ClassVar

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text import TextDataset


class ReportDataset(TextDataset):
    """A report as text, in UTF-8 whatever the locale. Arguments are those of `TextDataset`."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"mode": "r", "encoding": "utf-8"},
    }

    def preview(self) -> HTMLPreview:
        """The text; of an HTML page without line breaks and underscores."""
        text = self.load()
        # kedro-viz reads pages as Markdown too, where underscores and line breaks have a meaning.
        if Path(self._filepath).suffix != ".md":
            text = re.sub(r"\s*\n\s*|_", " ", text)
        return HTMLPreview(text)
