"""The embedded benchmarks: real digits, rendered birds, encoders that saw neither, a field guide. Nothing here needs a download."""
