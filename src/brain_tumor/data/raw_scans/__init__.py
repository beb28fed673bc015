"""Scans as a hospital has them, brought into the position of BraTS, and masks brought back."""
