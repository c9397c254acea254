"""`python -m evaluate.predict CLIP ... --checkpoint FILE`: any video to eight probabilities."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.predict.cli", "features,report")
