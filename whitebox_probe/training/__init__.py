"""How the shipped models were trained: one recipe for a CRATE and a ViT of the same size.

`python -m whitebox_probe.training crate --out runs/crate` trains; `test runs/crate` measures the
finished run, once, on the test images.
"""
