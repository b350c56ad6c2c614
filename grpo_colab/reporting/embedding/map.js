// The map of a task's problems: coloured by any column; a search or a lasso highlights problems and lists them.
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star"];
const MOST_ROWS = 200;
const LETTER = 7.6, LINE = 18; // about the size of a topic's letters, in pixels

async function start(data) {
  const count = data.x.length;
  const all = Array.from({ length: count }, (_, index) => index);
  const named = Object.fromEntries(data.columns.map((column) => [column.name, column]));
  const listed = [named.question, ...data.columns.filter((column) => column !== named.question)]; // the question is seen on a phone, too
  const questions = named.question.values.map((question) => question.toLowerCase());
  const webgl = Boolean(document.createElement("canvas").getContext("webgl"));
  const touch = matchMedia("(pointer: coarse)").matches; // there a drag scrolls the page, until a tool is chosen
  let chosen = null; // the indices that the search or the lasso found, null for all

  const by = make("select", { id: "colour" }, data.columns.filter((column) => column.kind !== "text").map(({ name, label }) => make("option", { value: name }, label)));
  const search = make("input", { id: "search", type: "search", placeholder: "words of a question", size: 28 });
  const state = make("span", { id: "found", role: "status" });
  const clear = make("button", { id: "clear", type: "button", disabled: true }, "Show all");
  const save = make("button", { id: "save", type: "button", disabled: true }, "Save the list as TSV");
  const below = make("a", { href: "#list", hidden: true }, "See the list");
  const place = make("div", { class: "chart", role: "img", "aria-label": "Map of the questions; the search lists them without it" });
  const list = make("div", { class: "scroll", id: "list" });
  document.getElementById("map").append(
    make("div", { class: "controls" }, make("label", {}, "Colour by ", by), make("label", {}, "Search ", search), clear),
    make("p", { class: "results" }, state, " ", below),
    place,
    make("p", { class: "muted hint" }, "Draw around points with the lasso, or search: they are listed here."),
    make("div", { class: "found" }, save),
    list,
  );

  function trace(indices, more) {
    const { marker, ...rest } = more;
    const size = Math.max(2, Math.min(10, (0.5 * place.clientWidth) / Math.sqrt(count)));
    const faint = chosen === null ? null : new Set(chosen);
    return {
      type: webgl ? "scattergl" : "scatter", mode: "markers", hovertemplate: "%{text}<extra></extra>",
      x: indices.map((index) => data.x[index]), y: indices.map((index) => data.y[index]),
      text: indices.map((index) => data.hover[index]), customdata: indices,
      marker: { size, line: { width: 0 }, ...marker },
      selectedpoints: faint && indices.flatMap((index, position) => (faint.has(index) ? [position] : [])),
      selected: { marker: { opacity: 1, size: size * 1.6 } }, unselected: { marker: { opacity: 0.12 } }, ...rest,
    };
  }

  function traces() {
    const { values, kind, name, label, scale, classes } = named[by.value];
    const known = all.filter((index) => values[index] !== null);
    const unknown = all.filter((index) => values[index] === null);
    const found = unknown.length ? [trace(unknown, { name: `not known (${unknown.length.toLocaleString("en")})`, marker: { color: "grey", opacity: 0.35 } })] : [];
    if (kind === "number") {
      const numbers = known.map((index) => values[index]);
      const { colours, ticks } = scale.ranked ? ranked(numbers) : { colours: numbers, ticks: wholeTicks(numbers, scale) };
      const text = scale.ranked ? `${label}: as many problems in each colour` : label;
      const marker = {
        color: colours, colorscale: data.scales[scale.colours], cmin: scale.low, cmax: scale.high, showscale: true,
        colorbar: { title: { text, side: "top" }, orientation: "h", y: -0.02, yanchor: "top", thickness: 12, len: 0.9, ...ticks },
      };
      return [...found, trace(known, { name, marker, showlegend: false })];
    }
    const shades = classes.length === 2 ? ["grey", "#d55e00"] : COLOURS;
    const own = (one) => known.filter((index) => values[index] === one);
    const others = known.filter((index) => !classes.includes(values[index]));
    if (others.length) found.push(trace(others, { name: `others (${others.length.toLocaleString("en")})`, marker: { color: "grey", opacity: 0.5 } }));
    return [...found, ...classes.map((one, nth) => {
      const marker = { color: shades[nth % shades.length], symbol: SYMBOLS[nth % SYMBOLS.length] };
      const text = one.length > 30 ? `${one.slice(0, 29)}…` : one;
      return trace(own(one), { name: `${escapeTags(text)} (${own(one).length.toLocaleString("en")})`, marker });
    })];
  }

  const layout = {
    hovermode: "closest", dragmode: touch ? false : "lasso", uirevision: "kept", margin: { l: 8, r: 8, t: 34, b: 8 },
    xaxis: { visible: false }, yaxis: { visible: false, scaleanchor: "x" }, annotations: [],
    legend: { orientation: "h", y: -0.02, yanchor: "top", itemsizing: "constant" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: "muted", activecolor: "ink" },
  };
  await draw(place, traces(), layout, { scrollZoom: true, displayModeBar: touch ? true : "hover", modeBarButtonsToRemove: ["autoScale2d"] });
  const chart = charts.at(-1);

  /** Return the topics that have room: none is written over another, and a zoom makes room for more. */
  function topics() {
    const { xaxis, yaxis } = place._fullLayout;
    const kept = [];
    for (const topic of data.topics) {
      const [x, y, width] = [xaxis.d2p(topic.x), yaxis.d2p(topic.y), LETTER * topic.word.length + 8];
      if (kept.every((other) => Math.abs(other.x - x) > (other.width + width) / 2 || Math.abs(other.y - y) > LINE)) kept.push({ x, y, width, topic });
    }
    return kept.map(({ topic: { x, y, word } }) => ({
      x, y, text: word, showarrow: false, yanchor: "bottom", font: { size: 13, color: "ink" }, bgcolor: "page", opacity: 0.8, borderpad: 0, captureevents: false,
    }));
  }

  async function label() {
    const fit = topics();
    const words = (some) => some.map(({ text }) => text).join(" ");
    if (words(fit) === words(layout.annotations)) return;
    layout.annotations = fit;
    await Plotly.relayout(place, { annotations: coloured(fit) });
  }

  function redraw() {
    chart.traces = traces();
    return render(chart);
  }

  function choose(indices) {
    chosen = indices;
    clear.disabled = save.disabled = chosen === null;
    state.textContent = chosen === null ? "" : `${chosen.length.toLocaleString("en")} of ${count.toLocaleString("en")} problems`;
    below.hidden = !chosen?.length;
    const shown = (chosen ?? []).slice(0, MOST_ROWS);
    const rows = shown.map((index) => make("tr", {}, listed.map(({ values, kind }) => make("td", { class: kind === "number" && "number" }, cell(values[index])))));
    list.replaceChildren(...(shown.length ? [
      make("table", {}, make("thead", {}, make("tr", {}, listed.map(({ name, kind }) => make("th", { scope: "col", class: kind === "number" && "number" }, name)))), make("tbody", {}, rows)),
      chosen.length > shown.length && make("p", { class: "muted" }, `The first ${shown.length}; a saved list has them all.`),
    ].filter(Boolean) : []));
    return redraw();
  }

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    choose(words.length ? all.filter((index) => words.every((word) => questions[index].includes(word))) : null);
  }

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 150); });
  by.addEventListener("change", redraw);
  clear.addEventListener("click", () => { search.value = ""; layout.selections = []; choose(null); });
  place.on("plotly_selected", (event) => {
    if (event?.points.length) { search.value = ""; choose(event.points.map((point) => point.customdata).sort((a, b) => a - b)); }
  });
  place.on("plotly_afterplot", label); // also after a zoom, and where the window has another size
  save.addEventListener("click", () => {
    const lines = [data.columns.map(({ name }) => name), ...chosen.map((index) => data.columns.map(({ values }) => cell(values[index])))];
    const file = new Blob([lines.map((line) => line.join("\t") + "\n").join("")], { type: "text/tab-separated-values" });
    const link = make("a", { href: URL.createObjectURL(file), download: `${data.name}-list.tsv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
  await label();
}

/** Return the ticks of a scale of a few whole numbers, each once; of others nothing, as the chart library sets its own. */
function wholeTicks(values, { low, high }) {
  if (high - low > 12 || !values.every(Number.isInteger) || low === high) return {};
  const tickvals = Array.from({ length: high - low + 1 }, (_, nth) => low + nth);
  const more = values.some((value) => value > high);
  return { tickvals, ticktext: tickvals.map((value) => `${value}${more && value === high ? "+" : ""}`) };
}

/**
 * Return a colour from 0 to 1 for each value, which is its rank, and the ticks of their scale. So one huge value leaves
 * the others their colours. Equal values have the same rank.
 */
function ranked(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const places = new Map(); // value -> its first and its last place
  sorted.forEach((value, place) => places.set(value, [places.get(value)?.[0] ?? place, place]));
  const rank = (value) => (places.get(value)[0] + places.get(value)[1]) / 2 / Math.max(1, sorted.length - 1);
  const marks = [...new Set([0, 0.25, 0.5, 0.75, 1].map((share) => sorted[Math.round(share * (sorted.length - 1))]))];
  return { colours: values.map(rank), ticks: { tickvals: marks.map(rank), ticktext: marks.map(short) } };
}

function cell(value) {
  return value === null ? "" : typeof value === "number" ? String(+value.toFixed(4)) : value;
}
