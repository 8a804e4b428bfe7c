"""SDI by eager PyTorch, by torch.compile and by sdi_plugin: `python -m benchmarks.sdi`."""
