"""Pretrained models as package data.

Of each there are ``NAME.safetensors`` (the checkpoint), ``NAME.quill`` (the bundle compiled from it), ``NAME.toml``
(the recipe, for ``--config``) and ``NAME.md`` (the model card). ``make models`` makes the first two from data.
"""
