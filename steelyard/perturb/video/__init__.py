"""Video perturbations: twelve kinds in four families at five severities, coherent in time, seeded and streamable."""

try:
    import cv2  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("video perturbations need OpenCV: pip install 'steelyard[video]'", name="cv2") from error

from steelyard.perturb.video.functional import kept_frames
from steelyard.perturb.video.kinds import FAMILIES, KINDS, Kind
from steelyard.perturb.video.sampling import (
    SEVERITIES,
    Clip,
    Composition,
    DropFrames,
    OutdoorCorruptions,
    ShuffleWindows,
    VideoPerturbation,
    compose,
    drop_frames,
    from_spec,
    outdoor_corruptions,
    shuffle_windows,
)

__all__ = [
    "FAMILIES",
    "KINDS",
    "SEVERITIES",
    "Clip",
    "Composition",
    "DropFrames",
    "Kind",
    "OutdoorCorruptions",
    "ShuffleWindows",
    "VideoPerturbation",
    "compose",
    "drop_frames",
    "from_spec",
    "kept_frames",
    "outdoor_corruptions",
    "shuffle_windows",
]
