"""From a source graph to one that a plan can bind: small rewrites, one a file, always on the lowered copy."""
