"""How the shipped models were trained: one recipe a pair, for images and for text.

`python -m whitebox_probe.training crate --out runs/crate` trains (`crate` or `vit` on images,
`crate-lm` or `gpt` on text); `test runs/crate` measures the finished run, once, on the test images
or the held-out text.
"""
