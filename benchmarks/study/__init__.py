"""A seeded comparison of U-Net v2 with the decoders of smp, and of its parts, on real images: see README.md."""
