"""Files people write and keep: scenarios, profiles and manifests, read with their line marks."""
