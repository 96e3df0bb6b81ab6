// What the service draws and enlarges with, as `GET /v1/models` tells it.

let models = [];

/** Know `offered` from now on. */
export function knowModels(offered) {
  models = offered;
}

/** The model called `name`; undefined when it is not on offer (any more). */
export const modelNamed = (name) => models.find((model) => model.name === name);

/** Those that draw. */
export const drawingModels = () => models.filter(({ kind }) => kind !== "upscaler");

/** What may enlarge a picture of this size, in pixels: `{ model, scale, width, height }` each. */
export function enlargements({ width, height }) {
  const upscalers = models.filter(({ kind }) => kind === "upscaler");
  const all = upscalers.flatMap((model) => model.scales.map((scale) =>
    ({ model, scale, width: width * scale, height: height * scale })));
  return all.filter((each) => Math.max(each.width, each.height) <= each.model.max_size);
}
