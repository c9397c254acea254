"""`python -m evaluate.predict CLIP ... [--checkpoint FILE ...]`: any video to probabilities."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.predict.cli", "features,landmarks,report,weights")
