"""From the cache to runs: stream clips, train one fold, write the results."""
