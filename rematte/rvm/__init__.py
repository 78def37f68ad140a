"""The modules that RobustVideoMatting documents, for programs written for it.

`rematte.rvm.model`, `rematte.rvm.inference` and `rematte.rvm.inference_utils` have the
names that `model.py`, `inference.py` and `inference_utils.py` have in a checkout.
"""
