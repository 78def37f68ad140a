"""The names of RobustVideoMatting's documentation, for programs written for it.

`rematte.rvm.model`, `rematte.rvm.inference` and `rematte.rvm.inference_utils` hold what
`model.py`, `inference.py` and `inference_utils.py` hold at the root of a checkout.
"""
