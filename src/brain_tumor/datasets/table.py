"""Tables as CSV."""

from typing import Any, ClassVar

from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import CSVDataset


class TableDataset(CSVDataset):
    """A table, written in UTF-8 whatever the locale. Arguments are those of `CSVDataset`."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {"open_args_save": {"mode": "w", "encoding": "utf-8"}}

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows; kedro-viz looks at the type, which is but a string in Kedro's own."""
        return super().preview(nrows)
