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
        """Markdown as it is; an HTML page without its styles.

        kedro-viz renders a page as Markdown, so spaces replace its underscores and line breaks.
        """
        text = self.load()
        return HTMLPreview(text if Path(self._filepath).suffix == ".md" else re.sub(r"\s*\n\s*|_", " ", text))
