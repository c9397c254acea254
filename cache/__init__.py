"""The cache: what a clip, a fold, a shard and a manifest are, and how they are kept."""
