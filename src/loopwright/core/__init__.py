"""What everything may rely on: errors, names, time, digests and safe writes; standard library only."""
