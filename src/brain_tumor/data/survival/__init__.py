"""Tumour masks as features of shape, and the patients that survival is predicted for."""
