"""The name `inference` of RobustVideoMatting's documentation.

After an installation it is `rematte.rvm.inference`, which has the flags and the code.
"""

import sys

from rematte.rvm.inference import convert_video, main

__all__ = ["convert_video"]

if __name__ == "__main__":
    sys.exit(main())
