"""Each encoder with its own classifier: the first rows of Table 1, and parts of other rows."""

from torch import Tensor, nn

from cache.schema import CLASS_COUNT
from model.landmarks import LandmarkEncoder
from model.mfcc_cnn import MfccCnn
from model.resnext3d import ResNeXt3D, pool

# Encodes pictures (B, 3, 30, H, W) or landmarks (B, 30, 68, 2) into a map (B, C, ...).
VideoEncoder = ResNeXt3D | LandmarkEncoder


class VideoNetwork(nn.Module):
    """3D ResNeXt-50, mean over all positions, classifier; 25,882,056 parameters."""

    def __init__(self, *, video: VideoEncoder):
        super().__init__()
        self.video = video
        self.fc = nn.Linear(video.channels, CLASS_COUNT)

    def forward(self, frames: Tensor, mfcc: Tensor | None) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) into logits (B, classes); `mfcc` is ignored."""
        return self.classify(self.video(frames))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) from the encoder's map (B, C, S, H, W)."""
        return self.fc(pool(features))


class AudioNetwork(nn.Module):
    """1D CNN over MFCCs, dropout, classifier; 34,024 parameters."""

    def __init__(self, *, audio: MfccCnn):
        super().__init__()
        self.audio = audio
        self.dropout = nn.Dropout(0.4)
        self.fc1 = nn.Linear(audio.num_features, CLASS_COUNT)

    def forward(self, frames: Tensor | None, mfcc: Tensor) -> Tensor:
        """Classify MFCCs (B, 13, 212) into logits (B, classes); `frames` is ignored."""
        return self.classify(self.audio(mfcc))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) from the encoder's map (B, C, 26)."""
        return self.fc1(self.dropout(self.audio.flatten(features)))
