// What tells two pictures apart, in the fewest words.

import { modelNamed } from "../common/models.js";
import { methodTitle, optionTitle, pixels, schedulerTitle } from "../common/wording.js";

/** What is looked at, most telling first: how it is read from a request, and how it is said. */
const FACTS = [
  [({ method }) => method, methodTitle],
  [({ model }) => model, (name) => modelNamed(name)?.title ?? name],
  [pixels, String],
  [({ num_inference_steps: steps }) => steps, (steps) => `${steps} steps`],
  [({ guidance_scale: scale }) => scale, (scale) => `Guidance ${scale}`],
  [({ scheduler }) => scheduler, schedulerTitle],
  [({ strength }) => strength, (strength) => (strength === null ? "From noise" : `Strength ${strength}`)],
  [({ loras }) => names(loras), (loras) => loras || "No LoRA"],
  [({ controls }) => names(controls), (controls) => controls || "Not guided"],
  [({ seed }) => seed, (seed) => `Seed ${seed}`],
  [({ prompt }) => prompt, String],
  [({ negative_prompt: words }) => words, (words) => (words ? `Without ${words}` : "Nothing left out")],
];

/** Names for two generations: the first fact that differs, else when they were asked for. */
export function distinctNames(left, right) {
  for (const [read, say] of FACTS) {
    const both = [read(left.request), read(right.request)];
    if (both[0] !== both[1]) return both.map(say);
  }
  const options = [left.request.method_options, right.request.method_options];
  const option = Object.keys(options[0]).find((name) => options[0][name] !== options[1][name]);
  if (option) return options.map((each) => `${optionTitle(option)}: ${each[option] ?? "automatic"}`);
  const isFirst = left.created_at <= right.created_at;
  return isFirst ? ["Made earlier", "Made later"] : ["Made later", "Made earlier"];
}

const names = (weighted) =>
  weighted.map(({ name, weight, scale }) => `${name} ${weight ?? scale}`).join(", ");
