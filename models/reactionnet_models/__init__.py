"""Models of five papers on facial behaviour, trained from one shard format."""
