"""Refuses flags of a command that do nothing without another flag.

Nothing heavy is imported here, so that such an error is quick.
"""

# What a flag needs, for flags that are not options of a conversion.
NEEDS = {
    "--format": "an output that is - or a named pipe",
    "--raw-input": "an input that is - or a named pipe",
    "--segment": "--resume or --workers",
    "--lead-in": "--workers of 2 or more",
    "--suffix": "-o with a folder",
    **dict.fromkeys(("--split", "--worker-cpus", "--retries"), "--ray"),
    "--checkpoint": "--against",
    "live --background": "--show composition",
    "live --background-fit": "a background that is an image or a video",
    "live --mbps": "an address or a file whose codec is H.264, HEVC, AV1 or VP9",
    "live --no-pace": "a source that is a file",
    "live --record": "a window, a virtual camera or an address",
    "live --raw-input": "a source that is - or a named pipe",
    "live --frame-rate": "--raw-input",
    "live --quality": "a ratio that is auto",
    "live --format": "an output that is - or a named pipe",
    "inspect --overwrite": "-o",
    "inspect --start": "a clip, or --source",
    "inspect --end": "a clip, or --source",
    "inspect --limit": "a clip, or --source",
    "inspect --weights": "a clip",
    "inspect --variant": "a clip",
    "inspect --quality": "a clip",
    "inspect --downsample-ratio": "a clip",
    "inspect --region": "a clip",
    "inspect --engine": "a clip",
    "inspect --device": "a clip",
    "inspect --dtype": "a clip",
}


def need(flag: str, value: object, met: bool) -> None:
    """Refuse a flag of `NEEDS` that was given (not None or False) and does nothing."""
    if value is not None and value is not False and not met:
        name = flag.rpartition(" ")[2]
        raise ValueError(f"{name} has no effect without {NEEDS[flag]}; leave it out")
