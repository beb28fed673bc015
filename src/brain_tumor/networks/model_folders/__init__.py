"""Networks that other projects trained, in folders as these write them: models of nnU-Net v2, and MONAI bundles."""

from brain_tumor.networks.model_folders.folder import ModelFolder, read_model_folder
from brain_tumor.networks.model_folders.labels import LabelRule, match_modalities, require_used

__all__ = ["LabelRule", "ModelFolder", "match_modalities", "read_model_folder", "require_used"]
