// Expressive face glyphs: a label, its place on the valence/arousal plane and its confidence become one drawn face.
//
// Every class has its own brows, eyes and mouth, so that the faces can be told apart without colour. Confidence scales
// how strongly the face is drawn and fills the ring around it.
// Abstaining, muted, opted-out and absent desks are no faces at all.

const SVG = "http://www.w3.org/2000/svg";

// Valence and arousal in -1..1: rounded positions on Russell's circumplex (1980). They shape the drawing; nothing
// on a box measures them.
const SHAPES = {
  anger: { valence: -0.6, arousal: 0.75, brow: { inner: 9, outer: -5, arch: 0 }, eyes: "narrow", mouth: "teeth" },
  boredom: { valence: -0.3, arousal: -0.75, brow: { inner: 0, outer: 1, arch: 1 }, eyes: "lidded", mouth: "slant" },
  disgust: { valence: -0.7, arousal: 0.3, brow: { inner: 7, outer: 1, arch: 2 }, eyes: "squint", mouth: "curl" },
  fear: { valence: -0.65, arousal: 0.8, brow: { inner: -9, outer: 0, arch: 2 }, eyes: "wide", mouth: "wave" },
  happiness: { valence: 0.85, arousal: 0.45, brow: { inner: -1, outer: -1, arch: 5 }, eyes: "arc", mouth: "grin" },
  neutral: { valence: 0, arousal: 0, brow: { inner: 0, outer: 0, arch: 2 }, eyes: "dot", mouth: "line" },
  sadness: { valence: -0.75, arousal: -0.45, brow: { inner: -8, outer: 5, arch: 1 }, eyes: "low", mouth: "line" },
  surprise: { valence: 0.2, arousal: 0.85, brow: { inner: -8, outer: -6, arch: 8 }, eyes: "wide", mouth: "round" },
};

function shape(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

const fixed = (value) => value.toFixed(1);

function canvas(title, kind) {
  const svg = shape("svg", { viewBox: "0 0 120 120", role: "img", class: `glyph glyph-${kind}`, "data-glyph": kind });
  shape("title", {}, svg).textContent = title;
  return svg;
}

function ring(svg, share, dashed) {
  const circumference = 2 * Math.PI * 54;
  shape("circle", { cx: 60, cy: 60, r: 54, class: dashed ? "ring-dashed" : "ring-track" }, svg);
  if (dashed) return;
  const filled = Math.max(0, Math.min(1, share)) * circumference;
  shape(
    "circle",
    {
      cx: 60, cy: 60, r: 54, class: "ring-share", transform: "rotate(-90 60 60)",
      "stroke-dasharray": `${fixed(filled)} ${fixed(circumference)}`,
    },
    svg,
  );
}

function brows(svg, brow, lift, strength) {
  const y = 41 - 5 * lift;
  const inner = y + brow.inner * strength;
  const outer = y + brow.outer * strength;
  const middle = (inner + outer) / 2 - brow.arch * strength - 2;
  for (const mirror of [(x) => x, (x) => 120 - x]) {
    const path = `M${mirror(30)} ${fixed(outer)} Q${mirror(41)} ${fixed(middle)} ${mirror(51)} ${fixed(inner)}`;
    shape("path", { d: path, class: "stroke" }, svg);
  }
}

const EYES = {
  dot: (svg, x) => shape("ellipse", { cx: x, cy: 57, rx: 4.6, ry: 5.6, class: "ink" }, svg),
  narrow: (svg, x) => shape("ellipse", { cx: x, cy: 58, rx: 5.4, ry: 3.4, class: "ink" }, svg),
  low: (svg, x) => {
    shape("ellipse", { cx: x, cy: 60, rx: 4.4, ry: 4.4, class: "ink" }, svg);
    const [outer, inner] = x < 60 ? [x - 8, x + 7] : [x + 8, x - 7];
    shape("path", { d: `M${outer} 58 Q${x} 53 ${inner} 54`, class: "stroke thin" }, svg);
    if (x > 60) shape("path", { d: "M83 68 C78 75 79 80 83 80 C87 80 88 75 83 68 Z", class: "tear" }, svg);
  },
  arc: (svg, x) => shape("path", { d: `M${x - 8} 60 Q${x} 48 ${x + 8} 60`, class: "stroke" }, svg),
  squint: (svg, x) => {
    shape("path", { d: `M${x - 8} 57 Q${x} 53 ${x + 8} 57`, class: "stroke thin" }, svg);
    shape("path", { d: `M${x - 7} 61 Q${x} 58 ${x + 7} 61`, class: "stroke thin" }, svg);
  },
  wide: (svg, x, strength) => {
    shape("circle", { cx: x, cy: 58, r: fixed(7.5 + 2 * strength), class: "white" }, svg);
    shape("circle", { cx: x, cy: 58, r: 3.8, class: "ink" }, svg);
  },
  lidded: (svg, x) => {
    shape("path", { d: `M${x - 8} 57 A8 8 0 0 0 ${x + 8} 57 Z`, class: "white" }, svg);
    shape("path", { d: `M${x - 1} 57 A4 4 0 0 0 ${x + 7} 57 Z`, class: "ink" }, svg);
    shape("path", { d: `M${x - 9.5} 57 H${x + 9.5}`, class: "stroke" }, svg);
  },
};

const MOUTHS = {
  line: (svg, curve) => {
    const corner = 85 - 6 * curve;
    shape("path", { d: `M42 ${fixed(corner)} Q60 ${fixed(85 + 16 * curve)} 78 ${fixed(corner)}`, class: "stroke" }, svg);
  },
  slant: (svg, curve, strength) =>
    shape("path", { d: `M44 ${fixed(85 + 3 * strength)} L77 ${fixed(86 - 3 * strength)}`, class: "stroke" }, svg),
  grin: (svg, curve) => {
    const depth = fixed(88 + 18 * curve);
    shape("path", { d: `M38 77 Q60 83 82 77 Q80 ${depth} 60 ${depth} Q40 ${depth} 38 77 Z`, class: "mouth" }, svg);
    shape("path", { d: "M43 79.5 Q60 84 77 79.5 L76 84 Q60 88 44 84 Z", class: "teeth" }, svg);
  },
  teeth: (svg, curve, strength) => {
    const sag = 5 * strength;
    const d = `M42 ${fixed(84 + sag)} Q60 ${fixed(80 - sag)} 78 ${fixed(84 + sag)} L76 ${fixed(92 + sag)} `
      + `Q60 ${fixed(89 - sag)} 44 ${fixed(92 + sag)} Z`;
    shape("path", { d, class: "teeth edge" }, svg);
    for (const x of [52, 60, 68]) shape("path", { d: `M${x} 82 V89`, class: "stroke hair" }, svg);
  },
  curl: (svg, curve, strength) => {
    const rise = 6 * strength;
    shape("path", { d: `M42 ${fixed(88 + rise / 2)} Q52 ${fixed(82 - rise)} 60 86 T79 ${fixed(84 + rise)}`, class: "stroke" }, svg);
    shape("path", { d: "M52 70 Q56 66 59 70 M61 70 Q64 66 68 70", class: "stroke thin" }, svg);
    shape("path", { d: "M63 89 Q66 101 72 98 Q77 95 73 88", class: "tongue" }, svg);
  },
  wave: (svg, curve, strength) => {
    const a = 4 + 4 * strength;
    shape("path", { d: `M42 88 q4.5 ${-a} 9 0 t9 0 t9 0 t9 0`, class: "stroke" }, svg);
  },
  round: (svg, curve, strength) =>
    shape("ellipse", { cx: 60, cy: 87, rx: fixed(6 + 3 * strength), ry: fixed(7 + 6 * strength), class: "mouth" }, svg),
};

/** A face for one of the eight labels; `confidence` 0..1 sets its strength and fills the ring. */
export function face(label, confidence, title) {
  const look = SHAPES[label];
  if (!look) return placeholder("unknown", title);
  const strength = 0.45 + 0.55 * Math.max(0, Math.min(1, confidence));
  const svg = canvas(title, label);
  ring(svg, confidence, false);
  shape("circle", { cx: 60, cy: 60, r: 46, class: `head tint-${label}` }, svg);
  brows(svg, look.brow, look.arousal * strength, strength);
  for (const x of [42, 78]) EYES[look.eyes](svg, x, strength);
  MOUTHS[look.mouth](svg, look.valence * strength, strength);
  return svg;
}

/** What stands where no expression is named: unsure (abstain), muted, opted-out, away, waiting, unknown. */
export function placeholder(kind, title) {
  const svg = canvas(title, kind);
  if (kind === "unsure") {
    ring(svg, 0, true);
    for (const x of [40, 60, 80]) shape("circle", { cx: x, cy: 60, r: 5, class: "quiet-ink" }, svg);
  } else if (kind === "muted") {
    shape("rect", { x: 12, y: 12, width: 96, height: 96, rx: 26, class: "tile" }, svg);
    shape("rect", { x: 51, y: 32, width: 18, height: 34, rx: 9, class: "quiet-ink" }, svg);
    shape("path", { d: "M41 56 a19 19 0 0 0 38 0 M60 75 V88 M50 88 H70", class: "quiet-line" }, svg);
    shape("path", { d: "M33 90 L87 30", class: "tile-cut" }, svg);
    shape("path", { d: "M33 90 L87 30", class: "quiet-line" }, svg);
  } else if (kind === "opted-out") {
    shape("rect", { x: 12, y: 12, width: 96, height: 96, rx: 26, class: "tile" }, svg);
    shape("path", { d: "M30 56 Q60 84 90 56 M60 72 V84 M41 67 L35 77 M79 67 L85 77", class: "quiet-line" }, svg);
  } else if (kind === "away") {
    shape("rect", { x: 12, y: 12, width: 96, height: 96, rx: 26, class: "ring-dashed" }, svg);
    shape("path", { d: "M47 42 V56 M73 42 V56 M38 56 H82 V62 A22 22 0 0 1 38 62 Z M60 84 V98", class: "quiet-line" }, svg);
    shape("path", { d: "M32 32 L88 92", class: "quiet-line" }, svg);
  } else {
    ring(svg, 0, true);
    shape("path", { d: "M46 46 a14 14 0 1 1 20 13 q-6 3 -6 10", class: "quiet-line" }, svg);
    shape("circle", { cx: 60, cy: 82, r: 3.4, class: "quiet-ink" }, svg);
  }
  return svg;
}

export const LABELS = Object.keys(SHAPES);
