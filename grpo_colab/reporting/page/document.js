// What every page does: unpack the chart library and the data that it holds, then call the page's own start(data),
// and once the browser has shown that, its finish(rest), if it has one. Whatever a model wrote becomes text: no
// function here takes HTML.
"use strict";

const COLOURS = ["blue", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#8c6bb1", "#777777"]; // after Okabe and Ito
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid"]; // told apart without colour
const charts = [];
const waiting = []; // functions that draw what is not drawn yet, as what is far below

/** Make an element. Properties that are null are left out; children are texts or elements. */
function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Return the stylesheet's colour of this name as it is now: light, dark, or on paper. */
function cssColour(name) {
  return name.startsWith("#") ? name : getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Draw a chart of `traces` in the element `place`. Colours may be names of the stylesheet, which they then follow. */
function draw(place, traces, layout = {}, config = {}) {
  const chart = { place, traces, layout, config };
  charts.push(chart);
  return render(chart);
}

function render({ place, traces, layout, config }) {
  const axis = { gridcolor: cssColour("line"), zerolinecolor: cssColour("line"), linecolor: cssColour("muted"), automargin: true };
  const paper = document.documentElement.classList.contains("paper");
  const size = paper ? { width: place.clientWidth, height: place.clientHeight } : {};
  const themed = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: cssColour("ink"), size: 12 },
    margin: { l: 48, r: 12, t: 8, b: 40 }, hovermode: "x unified", legend: { orientation: "h", y: -0.22 },
    hoverlabel: { bgcolor: cssColour("card"), bordercolor: cssColour("line"), font: { color: cssColour("ink") }, align: "left", namelength: 30 },
    ...size, ...layout,
  };
  for (const name of ["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d+$/.test(key))])
    themed[name] = { ...axis, ...layout[name] };
  return Plotly.react(place, coloured(traces), coloured(themed), { responsive: true, displaylogo: false, ...config });
}

/** Copy a value, with the stylesheet's colour in each `color`, `fillcolor` or `colorway` that has its name. */
function coloured(value, key = "") {
  if (Array.isArray(value)) return /color/.test(key) ? value.map((one) => coloured(one, key)) : value.some(isObject) ? value.map((one) => coloured(one)) : value;
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner, name)]));
  return /color/.test(key) && typeof value === "string" && /^[a-z]+$/.test(value) && cssColour(value) ? cssColour(value) : value;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Escape a text for Plotly, which reads some tags in its texts. */
function escapeTags(value) {
  return String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Return the text that an element of the page holds as gzip in base64. */
async function unpack(id) {
  const signs = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(signs.length);
  for (let n = 0; n < signs.length; n++) packed[n] = signs.charCodeAt(n); // ten times as fast as Uint8Array.from
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** Return a number as a person writes it: 80,000 and 0.00005, and a power of ten only for what is far from 1. */
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e15 || size < 1e-5)) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${Number(digits)}\u00a0×\u00a010${power.replace("+", "").replace(/./g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)])}`;
  }
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", size >= 1000 ? { maximumFractionDigits: 1 } : { maximumSignificantDigits: 4 });
}

/** Draw all that waits, and everything in the colours and sizes of paper, or of the screen again. */
function turnToPaper(paper) {
  if (document.documentElement.classList.contains("paper") === paper) return;
  document.documentElement.classList.toggle("paper", paper);
  if (paper) waiting.splice(0).forEach((show) => show());
  charts.forEach(render);
  if (!paper) for (const { place } of charts) if (place.offsetParent) Plotly.relayout(place, { autosize: true });
}

/** Keep the page loading, so that a program which prints it as soon as it is loaded waits; return what ends that. */
function keepLoading() {
  const frame = make("iframe", { hidden: true });
  document.body.append(frame);
  frame.contentDocument?.open(); // null in a sandbox
  return () => {
    frame.contentDocument?.close();
    frame.remove();
  };
}

addEventListener("beforeprint", () => turnToPaper(true));
addEventListener("afterprint", () => turnToPaper(false));
matchMedia("print").addEventListener("change", (event) => turnToPaper(event.matches)); // without a dialogue no other event comes

addEventListener("DOMContentLoaded", async () => {
  const loaded = keepLoading();
  const state = document.getElementById("state");
  try {
    document.head.append(Object.assign(document.createElement("script"), { textContent: await unpack("library") }));
    await start(JSON.parse(await unpack("data")));
    performance.mark("drawn"); // for tests/benchmarks/report.py
    if (typeof finish === "function") {
      await new Promise((next) => setTimeout(next, 20)); // one frame, in which the browser shows the charts
      await finish(JSON.parse(await unpack("rest")));
    }
    state.remove();
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    state.textContent = `The charts could not be drawn (${error}); a browser of 2023 or later can.`;
    console.error(error);
  }
  loaded();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(render));
});
