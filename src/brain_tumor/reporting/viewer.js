"use strict";
// The page holds scans and masks as compressed NIfTI in base64, and NiiVue likewise: nothing is fetched.
const find = (id) => document.getElementById(id);
const about = JSON.parse(find("about").textContent);
const NARROW = matchMedia("(max-width: 60rem)");
const HEADER = 352;     // bytes of a NIfTI-1 header
const BOTH = "both";
const FULL = 255;       // the brightest grey value
const ALL = 3;
const VIEWS = [["All", ALL], ["Axial", 0], ["Coronal", 1], ["Sagittal", 2], ["3-D", 4]];   // NiiVue's numbers
const AXIS_OF_VIEW = [2, 1, 0];     // Axial, Coronal, Sagittal: the axis that their slices are counted along
const HEAD = [125, 20];     // from where the head is seen in 3-D: azimuth and elevation in degrees
const SCAN = { R: [0, 255], G: [0, 255], B: [0, 255], A: [0, 14], I: [0, 255] };    // in 3-D the tumour shines through the brain

const state = { modality: 0, view: ALL, render: false, shown: BOTH, off: new Set(), hidden: false };
const panes = [...document.querySelectorAll("figure")].slice(0, about.masks.length).map((figure, mask) => ({ figure, mask, scans: [] }));
const unpacked = new Map();

async function unpack(id) {
  const text = find(id).textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function volume(id) {
  // Unpacked once, and only when it is first looked at.
  if (!unpacked.has(id)) unpacked.set(id, unpack(id));
  return unpacked.get(id);
}

async function makeImage(id, colormap) {
  return niivue.NVImage.new(await volume(id), `${id}.nii`, colormap, 1, null, 0, FULL);
}

// Places: indices of voxels and millimetres

function toMm(voxel) {
  return about.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
}

function toVoxel(mm) {
  const [a, b, c] = about.affine;
  const d = [mm[0] - a[3], mm[1] - b[3], mm[2] - c[3]];
  const det = (u, v, w) => u[0] * (v[1] * w[2] - v[2] * w[1]) - u[1] * (v[0] * w[2] - v[2] * w[0]) + u[2] * (v[0] * w[1] - v[1] * w[0]);
  const column = (k) => [a[k], b[k], c[k]];
  const whole = det(column(0), column(1), column(2));
  // Cramer's rule: the k-th column is replaced.
  return [0, 1, 2].map((k) => {
    const columns = [0, 1, 2].map((j) => (j === k ? d : column(j)));
    const index = Math.round(det(...columns) / whole);
    return Math.min(Math.max(index, 0), about.shape[k] - 1);
  });
}

let cross = about.centre.slice();

function showCross() {
  about.planes.forEach((plane, axis) => {
    const slider = find(`slice-${axis}`);
    slider.value = cross[axis];
    slider.nextElementSibling.value = `${plane.first + plane.step * cross[axis]} of ${plane.last}`;
  });
  describeCross();
}

async function describeCross() {
  const [w, h] = about.shape;
  const place = cross[0] + w * (cross[1] + h * cross[2]);
  const buffers = await Promise.all(about.masks.map((_, k) => volume(`mask-${k}`)));
  const tissues = about.targets.filter((target) => target.tissue);
  const words = about.masks.map((name, k) => {
    const label = new Uint8Array(buffers[k], HEADER)[place];
    const tissue = tissues.find((target) => target.labels.includes(label));
    return `${name.toLowerCase()} ${tissue ? tissue.name : "no tumour"}`;
  });
  find("cross").value = `At the cross: ${words.join(", ")}.`;
}

function moveCross(voxel) {
  cross = voxel.map((index, k) => Math.min(Math.max(index, 0), about.shape[k] - 1));
  for (const { nv } of active()) {
    nv.scene.crosshairPos = nv.mm2frac(toMm(cross));
    nv.drawScene();
  }
  showCross();
}

// Panes

const active = () => panes.filter((pane) => pane.nv && !pane.figure.hidden);

function isShown(pane) {
  return state.shown === BOTH || state.shown === pane.mask;
}

async function start(pane) {
  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.34, 0.71, 0.91, 0.7], fontColor: [0.92, 0.94, 0.96, 1], fontMinPx: 14,
    fontSizeScaling: 0.5, isRadiologicalConvention: true, showAllOrientationMarkers: true, sagittalNoseLeft: true, tileMargin: 2,
    crosshairWidthUnit: "mm", crosshairGap: 6,
    dragAndDropEnabled: false, logLevel: "error", loadingText: "", renderOverlayBlend: 0.25,
    // Their keys would change the view behind the controls.
    viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
  });
  pane.nv = nv;
  await nv.attachToCanvas(pane.figure.querySelector("canvas"));
  nv.addColormap("scan", SCAN);
  pane.image = await makeImage(`mask-${pane.mask}`, "gray");
  nv.onLocationChange = (at) => { cross = toVoxel(at.mm); showCross(); };
  nv.setRenderAzimuthElevation(...HEAD);
  new ResizeObserver(() => { lay(pane); nv.drawScene(); }).observe(pane.figure);
}

async function paint(pane) {
  if (!pane.nv) await start(pane);
  const { nv, scans } = pane;
  scans[state.modality] ??= await makeImage(`scan-${state.modality}`, "scan");
  const scan = scans[state.modality];
  // Each change would draw: drawn once, at the end.
  nv.isBusy = true;
  [scan.cal_min, scan.cal_max] = greyWindow();
  pane.image.setColormapLabel(colours());
  pane.image.opacity = state.hidden ? 0 : Number(find("opacity").value) / 100;
  nv.opts.atlasOutline = find("outline").checked ? 1 : 0;
  nv.opts.isNearestInterpolation = !find("smooth").checked;
  nv.opts.crosshairWidth = find("lines").checked ? 0.5 : 0;
  lay(pane);
  nv.volumes = [scan, pane.image];
  nv.setVolume(scan, 0);
  nv.scene.crosshairPos = nv.mm2frac(toMm(cross));
  nv.isBusy = false;
  nv.drawScene();
}

function lay({ nv, figure }) {
  // All planes: axial large, the others in a row below or in a column beside it, where there is more room.
  nv.opts.sliceType = state.view;
  if (state.view !== ALL) { nv.customLayout = null; return; }
  const { width, height } = figure.getBoundingClientRect();
  const small = state.render ? [1, 2, 4] : [1, 2];
  const side = 1 / 3 - 0.002;
  const upright = height > width;
  const rest = Math.min(0.42, upright ? width / 3 * 1.1 / height : height / 3 * 1.25 / width);
  const place = (k) => (upright ? [k / 3, 1.001 - rest, side, rest - 0.001] : [1.001 - rest, k / 3, rest - 0.001, side]);
  const large = upright ? [0, 0, 1, 1 - rest] : [0, 0, 1 - rest, 1];
  nv.customLayout = [{ sliceType: 0, position: large }, ...small.map((sliceType, k) => ({ sliceType, position: place(k) }))];
}

function greyWindow() {
  // In the middle of both sliders: all grey values.
  const middle = FULL / 2 + (50 - Number(find("brightness").value)) / 50 * FULL / 2;
  const width = FULL * 2 ** ((50 - Number(find("contrast").value)) / 25);
  return [middle - width / 2, middle + width / 2];
}

function colours() {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const target of about.targets.filter((each) => each.tissue)) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(target.colour.slice(at, at + 2), 16));
    for (const label of target.labels) {
      table.R.push(r); table.G.push(g); table.B.push(b); table.I.push(label); table.labels.push(target.name);
      table.A.push(state.off.has(target.name) ? 0 : 255);
    }
  }
  return table;
}

let painting = Promise.resolve();
let waiting = false;

function repaint() {
  // A slider asks more often than a scan can be drawn.
  if (waiting) return painting;
  waiting = true;
  painting = painting.then(async () => {
    waiting = false;
    for (const pane of panes) pane.figure.hidden = !isShown(pane);
    for (const pane of panes.filter(isShown)) await paint(pane);
    const shown = active().map((pane) => pane.nv);
    for (const nv of shown) nv.broadcastTo(shown.filter((other) => other !== nv), { "2d": true, "3d": true });
  }).catch(fail);
  return painting;
}

// Controls

function choose(box, items, chosen, change) {
  items.forEach(([name, value]) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: box, checked: value === chosen });
    input.addEventListener("change", () => { change(value); repaint(); });
    label.append(input, name);
    find(box).append(label);
  });
}

function addSliders() {
  [2, 1, 0].forEach((axis) => {
    const row = Object.assign(document.createElement("div"), { className: "range" });
    const slider = Object.assign(document.createElement("input"), { type: "range", id: `slice-${axis}`, min: 0, max: about.shape[axis] - 1 });
    const label = Object.assign(document.createElement("label"), { htmlFor: slider.id, textContent: about.planes[axis].name });
    slider.addEventListener("input", () => moveCross(cross.with(axis, Number(slider.value))));
    row.append(label, slider, document.createElement("output"));
    find("slices").append(row);
  });
}

function showSliders() {
  about.planes.forEach((_, axis) => {
    const row = find(`slice-${axis}`).parentElement;
    row.hidden = state.view < 3 && AXIS_OF_VIEW[state.view] !== axis;
    row.style.display = row.hidden ? "none" : "";
  });
  find("slices").hidden = state.view === 4;
}

function addTargets() {
  const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  const head = find("targets").createTHead().insertRow();
  const scored = about.targets.some((target) => target.dice !== null);
  for (const name of ["", ...about.masks, ...(scored ? ["Dice"] : [])]) head.append(cell("th", name));
  const body = find("targets").createTBody();
  for (const target of about.targets) {
    const row = body.insertRow();
    const first = cell("th", target.tissue ? "" : target.name);
    if (target.tissue) first.append(makeToggle(target)); else first.className = "region";
    row.append(first, ...target.ml.map((ml) => cell("td", ml < 10 ? ml.toFixed(2) : ml.toFixed(1))));
    if (scored) row.append(cell("td", target.dice === null ? "–" : target.dice.toFixed(3)));
  }
}

function makeToggle(target) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, name: target.name });
  box.addEventListener("change", () => { state.off[box.checked ? "delete" : "add"](target.name); repaint(); });
  const swatch = document.createElement("i");
  swatch.style.background = target.colour;
  label.append(box, swatch, target.name);
  return label;
}

function setLook(look) {
  document.documentElement.dataset.look = look;
  find("look").textContent = look === "dark" ? "Light" : "Dark";
}

function showRanges() {
  for (const id of ["opacity", "brightness", "contrast"]) find(id).nextElementSibling.value = `${find(id).value} %`;
}

function listen() {
  for (const id of ["opacity", "brightness", "contrast", "outline", "smooth", "lines"]) {
    find(id).addEventListener("input", () => { showRanges(); repaint(); });
  }
  find("look").addEventListener("click", () => setLook(document.documentElement.dataset.look === "dark" ? "light" : "dark"));
  find("tumour").addEventListener("click", () => moveCross(about.centre));
  find("reset").addEventListener("click", reset);
  addEventListener("keydown", press);
}

function reset() {
  for (const id of ["opacity", "brightness", "contrast"]) find(id).value = find(id).defaultValue;
  for (const { nv } of active()) { nv.scene.pan2Dxyzmm = [0, 0, 0, 1]; nv.setScale(1); nv.setRenderAzimuthElevation(...HEAD); }
  showRanges();
  repaint().then(() => moveCross(about.centre));
}

function press(event) {
  if (event.target.matches("input, button, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  const modality = find("modality").querySelectorAll("input")[Number(event.key) - 1];
  if (event.key === "ArrowUp") moveCross(cross.with(2, cross[2] + 1));
  else if (event.key === "ArrowDown") moveCross(cross.with(2, cross[2] - 1));
  else if (event.key === " ") { state.hidden = !state.hidden; repaint(); }
  else if (event.key >= "1" && event.key <= "9" && modality) modality.click();
  else return;
  event.preventDefault();
}

function fail(error) {
  document.querySelector(".wait").hidden = false;
  document.querySelector(".wait p").textContent = `The scans can't be shown: ${error.message}`;
  console.error(error);
}

async function open() {
  setLook(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  panes.forEach((pane) => { pane.figure.querySelector("figcaption").textContent = about.masks[pane.mask]; });
  const several = about.masks.length > 1;
  state.shown = several && !NARROW.matches ? BOTH : 0;
  const masks = about.masks.map((name, k) => [name.replace(" mask", ""), k]);
  choose("modality", about.modalities.map((name, k) => [name, k]), 0, (value) => { state.modality = value; });
  choose("view", VIEWS, state.view, (value) => { state.view = value; showSliders(); });
  if (several) choose("mask", [["Side by side", BOTH], ...masks], state.shown, (value) => { state.shown = value; });
  find("which").hidden = !several;
  addSliders(); addTargets(); listen(); showRanges(); showCross();
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL 2; switch on hardware acceleration, or open the page in another browser");
  const code = document.createElement("script");
  code.textContent = new TextDecoder().decode(await unpack("niivue"));
  document.head.append(code);
  // The slices first: the 3-D picture takes longer.
  await repaint();
  document.querySelector(".wait").hidden = true;
  document.documentElement.dataset.first = Math.round(performance.now());
  await new Promise((drawn) => { requestAnimationFrame(() => setTimeout(drawn)); });
  state.render = true;
  for (const pane of active()) { lay(pane); pane.nv.drawScene(); }
  document.documentElement.dataset.ready = Math.round(performance.now());
}

open().catch(fail);
