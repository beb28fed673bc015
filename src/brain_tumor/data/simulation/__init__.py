"""Simulated scans and images: phantoms from an atlas, in the layout of the published data sets."""
