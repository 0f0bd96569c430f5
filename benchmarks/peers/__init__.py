"""The same image, served by other software: what Palimpsest is compared with.

Each module runs in an environment of its own, and imports nothing of this project but `digits`, which is all
that they share: the decoder's session, the noise, and Pillow's encoder.
"""
