"""What a person sees and does on the page."""

import time
from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import PATIENCE_MILLISECONDS

Colour = tuple[int, int, int]

#: A point of the picture, in shares of its width and height: its place on screen and its colour.
_POINT = """([across, down]) => {
  const { OpenSeadragon } = window;
  const element = document.getElementById("viewer");
  const viewer = OpenSeadragon.getViewer(element);
  const { world } = viewer;
  const item = world.getItemAt(world.getItemCount() - 1);
  if (!item) return null;
  const size = item.getContentSize();
  const point = new OpenSeadragon.Point(across * size.x, down * size.y);
  const inside = item.imageToViewerElementCoordinates(point);
  const box = element.getBoundingClientRect();
  const { canvas } = viewer.drawer;
  const scale = canvas.width / box.width;
  const [x, y] = [Math.round(inside.x * scale), Math.round(inside.y * scale)];
  const { data } = canvas.getContext("2d").getImageData(x, y, 1, 1);
  return { x: box.left + inside.x, y: box.top + inside.y, colour: [...data] };
}"""

#: The sizes of window, in pixels, that the page is made for: two desks, a tablet and a phone.
SIZES = ((1440, 900), (1280, 720), (768, 1024), (390, 844))

#: An open dialog: what lies under it cannot be reached.
DIALOG = "dialog[open]"

#: What axe finds serious or critical at a place, by all of its rules or some.
_FLAWS = """async ([where, rules]) => {
  // Colours and places are those of the last frame, which a change of theme or size comes before.
  await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
  const options = { resultTypes: ["violations"] };
  if (rules) options.runOnly = { type: "rule", values: rules };
  const { violations } = await window.axe.run(where, options);
  return violations
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`);
}"""


class Screen:
    """The page as a person uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.status = page.locator("#status")
        self.cards = page.locator(".card")
        self.generate = page.get_by_role("button", name="Generate")

    def open(self, generation_id: str = "") -> None:
        """Go to the page, or to one generation on it."""
        self.page.goto(f"/#/{generation_id}" if generation_id else "/")
        expect(self.page.locator("#service")).to_contain_text("1 worker ready")
        expect(self.generate).to_be_enabled()

    def ask(self, prompt: str, size: str = "1024") -> str:
        """Fill in the form and send it; returns the generation's id."""
        self.page.get_by_label("Prompt", exact=True).fill(prompt)
        self.page.get_by_label(size, exact=True).check()
        before = self.page.url
        self.generate.click()
        self.page.wait_for_url(lambda url: url != before)
        expect(self.page.locator("#stage-title")).to_be_focused()
        return self.shown_id()

    def shown_id(self) -> str:
        """The id in the address, once there is one."""
        self.page.wait_for_url("**/#/*")
        return self.page.url.rpartition("/")[2]

    def flaws(self, where: str = ":root") -> list[str]:
        """What axe finds serious in what is shown there, by day, and in its colours by night.

        At the window's size, and once more at every size that the page is made for.
        """
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(Axe().axe_script)
        own = self.page.viewport_size
        assert own is not None
        found = self._flaws_here(where)
        for width, height in SIZES:
            self.page.set_viewport_size({"width": width, "height": height})
            found += [f"at {width} x {height}: {flaw}" for flaw in self._flaws_here(where)]
        self.page.set_viewport_size(own)
        return found

    def _flaws_here(self, where: str) -> list[str]:
        self.page.emulate_media(color_scheme="dark")
        found: list[str] = self.page.evaluate(_FLAWS, [where, ["color-contrast"]])
        self.page.emulate_media(color_scheme="light")
        return found + self.page.evaluate(_FLAWS, [where, None])

    def point(self, across: float, down: float) -> tuple[int, int] | None:
        """Where a point of the picture is on the screen; None while there is no picture."""
        found = self.page.evaluate(_POINT, [across, down])
        return (round(found["x"]), round(found["y"])) if found else None

    def colour(self, across: float, down: float) -> Colour | None:
        """The colour that the viewer shows at a point of the picture; None where it shows none."""
        found = self.page.evaluate(_POINT, [across, down])
        if not found or found["colour"][3] == 0:
            return None
        red, green, blue, _ = found["colour"]
        return red, green, blue

    def wait_for_colour(self, across: float, down: float, colour: Colour) -> None:
        """Return once a point of the picture has this colour."""
        self.wait(lambda: self.colour(across, down) == colour, f"{colour} at {across}, {down}")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return once `condition` holds."""
        deadline = time.monotonic() + PATIENCE_MILLISECONDS / 1000
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}"
            self.page.wait_for_timeout(50)
