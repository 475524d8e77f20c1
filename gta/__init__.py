"""GTA-CLIP, a reproducible companion: generate, transduct, adapt."""
