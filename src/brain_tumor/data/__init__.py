"""Scans, images and tables of patients: read, prepared, split, simulated."""

import logging

# nibabel remarks on every odd header, in each process that reads one.
# What keeps a file from being used is in the index.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
