"""SDI in eager PyTorch, torch.compile and sdi_plugin: `python -m benchmarks.sdi`."""
