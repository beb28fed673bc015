"""Training networks. What torch reads from the environment is set here, before it is imported."""

import os

# On CPUs, huge pages for large tensors; torch looks at it once, when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# What torch lacks on Apple's GPUs is computed on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
