"""The window of the browser's package, with an engine that finds what is bright."""

import json
import subprocess
from typing import Any

import numpy as np
import pytest
from demo_page import WEB, require_web

from rematte.matting.region import Window, move_states

WIDTH, HEIGHT, RATIO = 960, 540, 0.4
# Draws bright squares, 60 pixels wide, where the script says, and follows them.
SCRIPT = """
import {Follower} from './package/src/follow.js';
const {width, height, ratio, scenes, least} = JSON.parse(process.argv[1]);
const log = {steps: [], moves: [], resets: 0, held: 0};
const engine = {
  async step(pixels, w, h, r) {
    const coarse = [w, h].map(side => Math.floor(side * Math.fround(r)));
    log.steps.push([w, h, ...coarse]);
    const matte = pixels.slice();
    for (let at = 0; at < matte.length; at += 4) {
      matte[at + 3] = r < least ? 0 : matte[at]; // what is too small is not seen
    }
    return matte;
  },
  reset() { log.resets++; },
  exchange(states) {
    if (!states) log.held++;
    return {};
  },
  dispose() { log.held--; },
  async move(down, right) { log.moves.push([down, right]); },
};
const follower = new Follower(engine);
const frames = [];
for (const {squares, gray} of scenes) {
  const pixels = new Uint8ClampedArray(4 * width * height).fill(gray);
  for (const [x, y] of squares) {
    for (let row = y; row < y + 60; row++) {
      pixels.fill(255, 4 * (row * width + x), 4 * (row * width + x + 60));
    }
  }
  const before = follower.window && {...follower.window};
  const resets = log.resets;
  const rgba = await follower.matte(pixels, width, height, ratio);
  let wrong = 0;
  for (let at = 0; at < rgba.length; at += 4) {
    if ((rgba[at + 3] > 127) !== (pixels[at] > 127)) wrong++;
  }
  frames.push({window: before, wrong, reset: log.resets > resets});
}
follower.reset();
console.log(JSON.stringify({...log, frames}));
"""
SHIFT = """
import {shifted} from './package/src/shift.js';
const {planes, height, width, down, right} = JSON.parse(process.argv[1]);
const moved = shifted(Float32Array.from(planes), height, width, down, right);
console.log(JSON.stringify([...moved]));
"""


def node(script: str, given: dict[str, Any]) -> Any:
    require_web()
    words = ["--input-type=module", "--eval", script, "--", json.dumps(given)]
    done = subprocess.run(["node", *words], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def follow(*scenes: Any, least: float = 0, cut: int = 999) -> Any:
    """Show squares before a wall, which is another one from `cut` on."""
    given = {"width": WIDTH, "height": HEIGHT, "ratio": RATIO, "least": least}
    walls = [10 if n < cut else 90 for n in range(len(scenes))]
    pairs = zip(scenes, walls, strict=True)
    drawn = [{"squares": squares, "gray": wall} for squares, wall in pairs]
    return node(SCRIPT, given | {"scenes": drawn})


def test_a_window_follows_one_person() -> None:
    places = [[(200 + 4 * n, 200 + 2 * n)] for n in range(80)]
    done = follow(*places)
    windows = [frame["window"] for frame in done["frames"]]
    assert windows[:15] == [None] * 15
    assert all(windows[20:])
    assert [frame["wrong"] for frame in done["frames"]] == [0] * 80
    # The coarse pass keeps its size, so that nothing is built again.
    assert {(w, h) for *_, w, h in done["steps"]} == {(384, 216)}
    assert windows[20]["width"] < 0.75 * WIDTH
    # It moves in whole cells.
    assert done["moves"]
    for down, right in done["moves"]:
        assert (down, right) == (int(down), int(right))
        assert (down, right) != (0, 0)


def test_somebody_who_comes_in_is_seen() -> None:
    alone, both = [(100, 100)], [(100, 100), (800, 400)]
    done = follow(*[alone] * 30, *[both] * 30)
    frames = done["frames"]
    assert frames[29]["window"] is not None
    assert frames[30]["wrong"] == 3600  # outside of the window
    assert all(frame["wrong"] == 0 for frame in frames[40:])
    assert done["held"] == 0  # the states of all glances were freed


def test_an_empty_window_stays_until_somebody_is_seen() -> None:
    done = follow(*[[(100, 100)]] * 30, *[[]] * 30, *[[(800, 400)]] * 20)
    windows = [frame["window"] for frame in done["frames"]]
    assert windows[30] is not None
    assert windows[30:60] == [windows[30]] * 30
    assert all(frame["wrong"] == 0 for frame in done["frames"][70:])
    assert done["held"] == 0


def test_nobody_and_everybody_is_seen_whole() -> None:
    nobody = follow(*[[]] * 20)
    crowd = [(x, y) for x in range(0, WIDTH - 60, 200) for y in range(0, 480, 200)]
    everybody = follow(*[crowd] * 20)
    for done in (nobody, everybody):
        assert all(frame["window"] is None for frame in done["frames"])
        assert all(frame["wrong"] == 0 for frame in done["frames"])


def test_people_far_away_are_seen_from_the_first_frame_on() -> None:
    places = [[(200 + 4 * n, 200 + 2 * n)] for n in range(60)]
    done = follow(*places, least=0.6)
    assert [frame["wrong"] for frame in done["frames"]] == [0] * 60
    assert all(frame["window"] for frame in done["frames"][1:])
    assert done["held"] == 0
    # Where nobody is, a larger copy is seen now and then alone.
    nobody = follow(*[[]] * 40, least=0.6)
    larger = [n for n, step in enumerate(nobody["steps"]) if step[2] > 384]
    assert len(nobody["steps"]) == 40 + len(larger)
    assert len(larger) == 3
    # Who comes in far away later is seen then.
    later = follow(*[[]] * 10, *[[(500, 300)]] * 30, least=0.6)
    assert all(frame["wrong"] == 0 for frame in later["frames"][20:])


def test_a_cut_resets_the_window() -> None:
    frames = follow(*[[(100, 100)]] * 25, *[[(700, 300)]] * 5, cut=25)["frames"]
    assert frames[24]["window"] is not None
    assert [frame["reset"] for frame in frames[24:28]] == [False, True, False, False]
    assert all(frame["wrong"] == 0 for frame in frames)


@pytest.mark.parametrize(("down", "right"), [(2, -1), (-1, 3), (0, 0), (9, 0)])
def test_states_move_as_in_the_package(down: int, right: int) -> None:
    state = np.random.default_rng(0).random((1, 3, 6, 8), np.float32)
    # Windows of one pixel for each element of the state.
    before, after = (Window(x, y, (0, 0, 0, 0)) for x, y in ((right, down), (0, 0)))
    ((expected,),) = move_states([[state]], [before], [after], (6, 8))
    given = {"planes": state.ravel().tolist(), "height": 6, "width": 8}
    found = node(SHIFT, given | {"down": down, "right": right})
    np.testing.assert_array_equal(np.float32(found), expected.ravel())
