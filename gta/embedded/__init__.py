"""The embedded world: real digits, encoders that never saw handwriting, a field guide. Nothing here needs a download."""
