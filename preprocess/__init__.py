"""From raw RAVDESS clips to the cache: decode, find the face, crop, MFCC."""
