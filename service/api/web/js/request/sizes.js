// Which sizes to offer for a model: its native side and doublings of it, in a few shapes.

export const SHAPES = [
  { name: "Square", wide: 1, tall: 1 },
  { name: "4:3", wide: 4, tall: 3 },
  { name: "16:9", wide: 16, tall: 9 },
  { name: "3:4", wide: 3, tall: 4 },
  { name: "9:16", wide: 9, tall: 16 },
];

/** Sides of squares, in pixels: native, twice, four times and so on, and the default. */
export function sidesOf(model) {
  const sides = new Set([model.default_size]);
  for (let side = model.native_size; side <= model.max_size; side *= 2) sides.add(side);
  return [...sides].filter((side) => side >= model.min_size).sort((a, b) => a - b);
}

/**
 * Width and height with the area of a square, as far as the model's limits go.
 *
 * @param {object} model whose `min_size` and `max_size` bound both, in pixels, and whose
 *   `size_multiple` both are multiples of
 * @param {number} side of the square, in pixels
 * @param {{wide: number, tall: number}} shape
 */
export function dimensions(model, side, shape) {
  const multiple = model.size_multiple;
  const stretch = Math.sqrt(shape.wide / shape.tall);
  const shrink = Math.min(1, model.max_size / (side * Math.max(stretch, 1 / stretch)));
  const fit = (length) =>
    Math.max(model.min_size, Math.round((length * shrink) / multiple) * multiple);
  return { width: fit(side * stretch), height: fit(side / stretch) };
}

/** Width and height like a picture's, within the model's limits, in its shape as far as these let. */
export function dimensionsLike(model, { width, height }) {
  const multiple = model.size_multiple;
  const shrunk = Math.min(1, model.max_size / Math.max(width, height));
  const factor = Math.max(shrunk, model.min_size / Math.min(width, height));
  const side = (pixels) => {
    const rounded = Math.round((pixels * factor) / multiple) * multiple;
    return Math.min(Math.max(rounded, model.min_size), model.max_size);
  };
  return { width: side(width), height: side(height) };
}
