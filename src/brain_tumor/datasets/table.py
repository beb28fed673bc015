"""Tables as CSV."""

from typing import Any, ClassVar

from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import CSVDataset


class TableDataset(CSVDataset):
    """A table, written in UTF-8 whatever the locale. Arguments are those of `CSVDataset`."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {"open_args_save": {"mode": "w", "encoding": "utf-8"}}

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows."""
        # Here for its return type, which kedro-viz reads; in Kedro's own method it is a string.
        return super().preview(nrows)
