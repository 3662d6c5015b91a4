"""From a folder of photos, or a video, to a scene that can be trained on."""

from lg_field.photos.capture import CaptureSettings as CaptureSettings
from lg_field.photos.capture import make_scene as make_scene
from lg_field.photos.poses import PoseSettings as PoseSettings
