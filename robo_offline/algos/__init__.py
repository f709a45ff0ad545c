"""One paper, one file: a config and named losses."""
