"""Training networks."""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages for large tensors; torch looks at it once, when it first allocates
