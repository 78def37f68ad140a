"""Measures mattes against true ones, and makes test sets with known truth.

The constants here need no other package, so that the command line can show them.
"""

# Name and heading of each metric, in the order of the table. Lower is better, except
# for IoU.
METRICS = {
    "mad": "MAD",
    "mse": "MSE",
    "sad": "SAD",
    "mad_t": "MAD-T",
    "mse_t": "MSE-T",
    "sad_t": "SAD-T",
    "grad": "Grad",
    "conn": "Conn",
    "dtssd": "dtSSD",
    "fgr_mse": "FgrMSE",
    "fgr_mad": "FgrMAD",
    "iou": "IoU",
}
# How the backgrounds of a test set move.
MOTIONS = ("own", "none", "pan")
# Index of the screen's channel in RGB.
SCREENS = {"green": 1, "blue": 2}
