"""Write the table of docs/formats.md on how independent readers read each preset.

    python benchmarks/receiver_table.py clip.mp4

Needs ffprobe and ffmpeg (not PyAV's), Pillow, OpenEXR and playwright with Chromium.
"""

import argparse
import io
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from PIL import Image, ImageSequence
from playwright.sync_api import Browser, sync_playwright

import rematte
from rematte.conversion.presets import PRESETS

MAGENTA = (255, 0, 255)


def probe(path: Path) -> str:
    """Say what Debian's FFmpeg finds in a file."""
    entries = "stream=codec_name,pix_fmt,width,height,nb_read_packets"
    words = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets"]
    words += ["-show_entries", entries, "-of", "json"]
    done = subprocess.run([*words, str(path)], capture_output=True, check=True)
    found = json.loads(done.stdout)["streams"][0]
    text = f"{found['codec_name']} {found['pix_fmt']} {found['width']}x"
    text += f"{found['height']}, {found['nb_read_packets']} frames"
    if path.suffix in (".mov", ".webm"):
        # FFmpeg's own decoder of VP9 drops alpha.
        decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
        words = ["ffmpeg", "-v", "error", *decoder, "-i", str(path), "-frames:v", "1"]
        words += ["-f", "rawvideo", "-pix_fmt", "rgba", "-"]
        raw = subprocess.run(words, capture_output=True, check=True).stdout
        clear = (np.frombuffer(raw, np.uint8)[3::4] == 0).mean()
        text += f", {clear:.0%} transparent"
    return text


def look(path: Path) -> str:
    """Say what Pillow or the OpenEXR library finds in an image or animation."""
    if path.suffix == ".exr":
        with OpenEXR.File(str(path), separate_channels=True) as file:
            alpha = file.channels()["A"].pixels
            kind = str(file.header()["compression"]).rpartition(".")[2]
        clear = (alpha == 0).mean()
        return f"OpenEXR: {alpha.dtype}, {kind}, {clear:.0%} transparent"
    with Image.open(path) as image:
        count = sum(1 for _ in ImageSequence.Iterator(image))
        image.seek(0)
        first = np.asarray(image.convert("RGBA"))
        clear = (first[..., 3] == 0).mean()
        return (
            f"Pillow: {image.size[0]}x{image.size[1]}, {count} frames, "
            f"{clear:.0%} transparent"
        )


def show(browser: Browser, path: Path) -> str:
    """Say how much of a magenta page Chromium shows through the first picture."""
    page = browser.new_page(viewport={"width": 640, "height": 640})
    tag = "video" if path.suffix in (".mp4", ".webm") else "img"
    page.goto(path.parent.as_uri())
    page.set_content(
        f"<body style='margin:0;background:rgb{MAGENTA}'>"
        f"<{tag} src='{path.as_uri()}' style='width:640px' id=it></{tag}>"
    )
    ready = "it.readyState >= 2" if tag == "video" else "it.complete && it.naturalWidth"
    try:
        page.wait_for_function(ready, timeout=10_000)
    except Exception:
        return "not shown"
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#it").screenshot())))
    page.close()
    clear = (np.abs(shot[..., :3].astype(int) - MAGENTA).max(2) < 9).mean()
    return f"shown, {clear:.0%} transparent"


def row(browser: Browser, clip: Path, name: str, folder: Path) -> str:
    """Convert with a preset and make its row."""
    suffix = PRESETS[name].suffixes[0]
    target = folder / (f"{name}.%04d.exr" if suffix == ".exr" else f"{name}{suffix}")
    options: dict[str, Any] = {"preset": name, "edge_colour": "clean", "warmup": "auto"}
    rematte.convert_video(None, clip, output=target, progress=False, **options)
    made = sorted(folder.glob(f"{name}*"))
    size = sum(path.stat().st_size for path in made) / len(made) / 1000
    readers = [look(made[0])] if suffix in (".gif", ".webp", ".exr") else []
    readers += [f"FFmpeg: {probe(made[0])}"] if suffix not in (".webp", ".exr") else []
    if suffix not in (".mov", ".exr"):
        readers.append(f"Chromium: {show(browser, made[0])}")
    each = " each" if len(made) > 1 else ""
    return f"| `{name}` | `{suffix}`, {size:,.0f} kB{each} | {'; '.join(readers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    clip = parser.parse_args().clip
    print("| preset | file | what independent readers see |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium")
        for name in PRESETS:
            print(row(browser, clip, name, Path(folder)), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
