"""The page around a report: its style, and what its figures mean in words."""

# Nothing is fetched: style and pictures are in the page.
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>rematte inspect: {title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fbfbfa; --card: #fff; --ink: #24292e;
  --soft: #68717a; --line: #dfe2e4; --c1: #2f6fb0; --c2: #3c8c5c; --c3: #b3702a;
  --shade: #8882; --good: #2f7d4f; --bad: #b3402a; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #17191b; --card: #1f2225;
  --ink: #e4e6e8; --soft: #9aa3ab; --line: #34393e; --c1: #79aee4; --c2: #7cc79a;
  --c3: #e0a566; --shade: #8883; --good: #7cc79a; --bad: #ee8a73; }} }}
body {{ max-width: 60rem; margin: 2.5rem auto; padding: 0 1.2rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
h3 {{ font-size: 1rem; margin: 0; }}
small, .about, figcaption {{ color: var(--soft); font-weight: 400; }}
.about {{ margin: .2rem 0 1.2rem; font-size: .9rem; }}
.verdict {{ font-size: 1.1rem; }}
.tiles {{ display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }}
.tiles div, section, figure {{ background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: .8rem; margin: 0; }}
.tiles span, .tiles small {{ display: block; font-size: .85rem; }}
.tiles b {{ font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
section {{ margin-bottom: .8rem; }}
section ul {{ margin: .3rem 0 .7rem; padding-left: 1.2rem; }}
.strip {{ display: grid; gap: 6px;
  grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); }}
img {{ max-width: 100%; height: auto; display: block; border-radius: 4px; }}
figure img {{ margin: auto; }}
figcaption {{ font-size: .85rem; margin-top: .4rem; }}
svg {{ width: 100%; height: auto; display: block; }}
svg text {{ font-size: 12px; fill: var(--soft); text-anchor: middle; }}
svg text.left {{ text-anchor: end; }}
svg path {{ fill: none; stroke: var(--c1); stroke-width: 1.8; }}
svg .grid {{ stroke: var(--line); stroke-width: 1; }}
svg rect {{ fill: var(--shade); }}
svg path.c2 {{ stroke: var(--c2); }} svg path.c3 {{ stroke: var(--c3); }}
svg circle.c1 {{ fill: var(--c1); }} svg circle.c2 {{ fill: var(--c2); }}
svg circle.c3 {{ fill: var(--c3); }}
figcaption span {{ margin-right: 1.2rem; }}
figcaption span::before {{ content: ""; display: inline-block; width: .9rem;
  height: .25rem; margin-right: .4rem; vertical-align: middle; border-radius: 2px;
  background: var(--c1); }}
figcaption .c2::before {{ background: var(--c2); }}
figcaption .c3::before {{ background: var(--c3); }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .35rem .8rem .35rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; white-space: nowrap; }}
.ok {{ color: var(--good); }} .bad {{ color: var(--bad); font-weight: 600; }}
details {{ margin-top: 2.2rem; color: var(--soft); font-size: .9rem; }}
</style>
<body>
{body}
</body>
</html>
"""

EXPLAINED = {
    "clip": (
        "<details open><summary>What the figures mean</summary>",
        "<p>Nobody has told this page the true matte. Each moment was matted four "
        "times: plainly, as its mirror image, with the clip played backwards, and at "
        "another downsample ratio. <b>Agreement</b> is what both mattes cover over "
        "what either covers. Where the mattes agree they are mostly right, but all of "
        "them can be wrong alike.</p>",
        "<p><b>Flicker</b> is the mean change of alpha from one frame to the next at "
        "edges where the picture does not change. <b>Holes</b> are the share of the "
        "person that is see-through and enclosed by the person; a gap that is really "
        "there, such as between arm and body, counts too.</p></details>",
    ),
    "matte": (
        "<details open><summary>What the figures mean</summary>",
        "<p>The checks tell whether the file is whole and says what it is, not whether "
        "the people in it were found. <b>Coverage</b> is the mean of alpha. A frame "
        "deserves a look where coverage changes by 30% or more from one frame to the "
        "next, or where more of the person is see-through inside than usual.</p>"
        "</details>",
    ),
}
