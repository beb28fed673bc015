"""Reports as self-contained HTML pages, cards and sheets as Markdown."""

import re
from pathlib import Path

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text import TextDataset


class ReportDataset(TextDataset):
    """A report as text. Arguments are those of `TextDataset`."""

    def preview(self) -> HTMLPreview:
        """Markdown as it is; a page without its styles. kedro-viz takes a page's underscores and line breaks for Markdown, so spaces stand for both."""
        text = self.load()
        return HTMLPreview(text if Path(self._filepath).suffix == ".md" else re.sub(r"\s*\n\s*|_", " ", text))
