"""Pack the files of a training run for a lent GPU machine, and print its commands.

    python benchmarks/gpu_parts.py ../shared/train/*.tar TEACHER.safetensors av-*.whl

Each call copies the working tree and the ignored files named in `carry` to the machine,
at most 64 MiB. So the files are written into one tar, which is split into parts that
fit beside the working tree; each call copies one part, and the first call that trains
joins them. Results are split too. Prints one line of JSON for each call of the tool.

To continue a run, join its pieces (cat state.* > state.pt) and pack state.pt with the
other files.
"""

import argparse
import json
import subprocess
import sys
import tarfile
from pathlib import Path

CALL = 64 << 20  # bytes a call may carry, the working tree counted in
SPARE = 4 << 20
PLACE = "/tmp/gpu"
PIECE = "15M"  # of 16 MiB a file that may come back


def tree_size() -> int:
    """Bytes of the files that travel anyway."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
    ).stdout
    paths = [Path(name) for name in listed.decode().split("\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def pack(files: list[Path], folder: Path, limit: int) -> list[Path]:
    """Write a tar of files, under their bare names, in parts of at most so many bytes.

    Older parts in the folder are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part-*"):
        old.unlink()
    whole = folder / "whole.tar"
    with tarfile.open(whole, "w") as archive:
        for path in files:
            archive.add(path, path.name)
    parts: list[Path] = []
    with whole.open("rb") as stream:
        while data := stream.read(limit):
            parts.append(folder / f"part-{len(parts):02d}")
            parts[-1].write_bytes(data)
    whole.unlink()
    return parts


def calls(files: list[Path], parts: list[Path], recipe: str, minutes: float) -> list[
    dict[str, object]
]:  # fmt: skip
    """The calls of the device tool, in order."""
    take = [
        {
            "command": f"mkdir -p {PLACE}/run && cp {part} {PLACE}/ && ls -l {PLACE}",
            "carry": [str(part)],
            "timeout_s": 120,
        }
        for part in parts
    ]
    names = [path.name for path in files]
    teacher = next((n for n in names if n.endswith(".safetensors")), "TEACHER")
    wheels = " ".join(f"{PLACE}/{n}" for n in names if n.endswith(".whl"))
    install = f"python3 -m pip install -q --no-index --no-deps --target {PLACE}/site "
    state = f" && mv {PLACE}/state.pt {PLACE}/run/" if "state.pt" in names else ""
    unpack = (
        f"cat {PLACE}/part-* | tar x -C {PLACE} && rm {PLACE}/part-*"
        + (f" && {install}{wheels}" if wheels else "")
        + state
    )
    train = (
        f"export PYTHONPATH=.:{PLACE}/site PYTHONUNBUFFERED=1; "
        f"python3 -m rematte train {recipe} --resume --minutes {minutes:g} --device "
        f"cuda --set \"data.shards=['{PLACE}/*.tar']\" "
        f"--set model.teacher={PLACE}/{teacher} --set run.out={PLACE}/run"
    )
    back = (
        f"cp {PLACE}/run/log.jsonl $OUT/; "
        f"cp $(ls {PLACE}/run/sheets/*.png | tail -n 1) $OUT/sheet.png; "
    )
    weights = back + f"cp {PLACE}/run/weights.safetensors $OUT/"
    pieces = back + f"split -b {PIECE} -d {PLACE}/run/state.pt $OUT/state."
    return [
        *take,
        {"command": f"{unpack}; {train}; {weights}", "timeout_s": 600},
        {"command": f"{train}; {weights}", "timeout_s": 600},
        {"command": pieces, "timeout_s": 60},
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Pack training for a lent GPU.")
    parser.add_argument("files", nargs="+", type=Path, help="shards, teacher, wheels")
    parser.add_argument("--recipe", default="recipes/bundled.toml")
    parser.add_argument("--minutes", type=float, default=8.5, help="of one call")
    parser.add_argument("--out", type=Path, default=Path(".gpu"), help="ignored by git")
    options = parser.parse_args()
    missing = [path for path in options.files if not path.is_file()]
    if missing:
        parser.error(f"{missing[0]} is no file; give paths of files")
    if options.out.is_absolute():
        parser.error(f"--out {options.out} must lie in the repository, as carry needs")
    limit = CALL - SPARE - tree_size()
    if limit <= 0:
        parser.error(
            "the working tree alone is too large for a call; ignore some files"
        )
    parts = pack(options.files, options.out, limit)
    print(
        f"# {len(parts)} parts of at most {limit >> 20} MiB in {options.out}; it must "
        "be ignored by git",
        file=sys.stderr,
    )
    for call in calls(options.files, parts, options.recipe, options.minutes):
        print(json.dumps(call))
    return 0


if __name__ == "__main__":
    sys.exit(main())
