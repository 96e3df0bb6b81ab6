// How names, sizes and times are written for people.

const METHODS = {
  hidiffusion: "HiDiffusion",
  "hidiffusion-guided": "HiDiffusion, guided",
  "hidiffusion-refresh": "HiDiffusion, refreshed",
  "diffuse-high": "DiffuseHigh",
  "upsample-guidance": "Upsample Guidance",
  raunet: "RAU-Net alone",
  "msw-msa": "Window attention alone",
  refine: "Native picture, refined",
  "token-windows": "Windows of tokens",
  positions: "Scaled positions",
  direct: "Direct",
};

const OPTIONS = {
  aggressive_ratio: "Steps of the aggressive stage",
  attention_weight: "Native attention",
  axes: "Axes",
  band_end: "Low band held until",
  band_fade: "Low band let go",
  band_steps: "Steps with the low band held",
  band_weight: "Low band held",
  control_ratio: "RAU-Net under a ControlNet",
  denoiser: "Drawn with",
  eta: "Guided share of the steps",
  extra_window_levels: "Further levels with windows",
  full_share: "Steps with full attention",
  guidance_scale: "Guidance of the method",
  noising_steps: "Steps of a stage",
  num_stages: "Stages",
  reference: "Reference",
  refresh_at: "First refresh at",
  scale: "Pooled by",
  sharpening: "Sharpening",
  sharpening_sigma: "Radius of sharpening",
  space: "Enlarged in",
  splitter: "Low band",
  strength: "Share drawn at full size",
  t1_ratio: "RAU-Net, first mechanism",
  t2_ratio: "RAU-Net, second mechanism",
  temperature: "Sharpness of attention",
  theta: "Weight of upsample guidance",
  time_shift: "Shift of the schedule",
  wavelet_level: "Wavelet levels",
  window_grid: "Windows along a side",
};

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** An option's name in words; one this page does not know keeps its own. */
export const optionTitle = (name) => OPTIONS[name] ?? capital(name.replaceAll("_", " "));

/** A method's name; one this page does not know keeps its own. */
export const methodTitle = (name) => METHODS[name] ?? name;

/** A diffusers scheduler without the words they all share, and with its variants. */
export function schedulerTitle(name) {
  const [plain, ...variants] = name.split("+");
  const words = plain.replace(/(Discrete)?Scheduler$/, "").replace(/([a-z])([A-Z])/g, "$1 $2");
  return [words, ...variants.map((each) => (each === "sde" ? "SDE" : capital(each)))].join(" ");
}

export const pixels = ({ width, height }) => `${width} × ${height}`;

/** Seconds as one reads them: "4 s", "2 min 5 s", "1 h 10 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

export function bytes(count) {
  return count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

const ordinals = new Intl.PluralRules("en", { type: "ordinal" });
const SUFFIXES = { one: "st", two: "nd", few: "rd", other: "th" };

/** 1st, 2nd, 3rd, 11th. */
export const ordinal = (number) => number + SUFFIXES[ordinals.select(number)];
