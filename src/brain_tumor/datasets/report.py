"""Reports as self-contained HTML pages."""

import re

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text import TextDataset


class ReportDataset(TextDataset):
    """A report as text. Arguments are those of `TextDataset`."""

    def preview(self) -> HTMLPreview:
        """The report without its styles. kedro-viz takes underscores and line breaks for Markdown, so spaces stand for both."""
        return HTMLPreview(re.sub(r"\s*\n\s*|_", " ", self.load()))
