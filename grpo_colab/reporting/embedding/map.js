// The map of a task's problems: coloured by any column; a search or a lasso highlights problems and lists them.
const SCALE = [[0, "#3b528b"], [0.25, "#2c728e"], [0.5, "#21918c"], [0.75, "#5ec962"], [1, "#dde318"]]; // of viridis
const DIVIDED = [[0, "#b35806"], [0.5, "#b8b8c0"], [1, "#2166ac"]];
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star"];
const MOST_ROWS = 200;

async function start(data) {
  const count = data.x.length;
  const all = Array.from({ length: count }, (_, index) => index);
  const named = Object.fromEntries(data.columns.map((column) => [column.name, column]));
  const questions = named.question.values.map((question) => question.toLowerCase());
  const webgl = Boolean(document.createElement("canvas").getContext("webgl"));
  let chosen = null; // the indices that the search or the lasso found, null for all

  const by = make("select", { id: "colour" }, data.columns.filter((column) => column.kind !== "text").map(({ name }) => make("option", {}, name)));
  const search = make("input", { id: "search", type: "search", placeholder: "words of a question", size: 28 });
  const state = make("span", { id: "found", role: "status" });
  const clear = make("button", { id: "clear", type: "button", disabled: true }, "Show all");
  const save = make("button", { id: "save", type: "button", disabled: true }, "Save the list as TSV");
  const place = make("div", { class: "chart", role: "img", "aria-label": "Map of the questions; the search lists them without it" });
  const list = make("div", { class: "scroll", id: "list" });
  document.getElementById("map").append(
    make("div", { class: "controls" }, make("label", {}, "Colour by ", by), make("label", {}, "Search ", search), clear),
    place,
    make("p", { class: "muted" }, "Draw around points with the mouse, or search: they are listed here."),
    make("div", { class: "found" }, state, save),
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
    const { values, kind, name } = named[by.value];
    const known = all.filter((index) => values[index] !== null);
    const unknown = all.filter((index) => values[index] === null);
    const found = unknown.length ? [trace(unknown, { name: "not known", marker: { color: "grey", opacity: 0.35 } })] : [];
    if (kind === "number") {
      const sorted = known.map((index) => values[index]).sort((a, b) => a - b);
      const [low, high] = name === "change" ? [-1, 1] : [0.01, 0.99].map((share) => sorted[Math.floor(share * (sorted.length - 1))]);
      const marker = {
        color: known.map((index) => values[index]), colorscale: name === "change" ? DIVIDED : SCALE, cmin: low, cmax: high,
        colorbar: { title: { text: name }, thickness: 12, len: 0.6 }, showscale: true,
      };
      return [...found, trace(known, { name, marker, showlegend: false })];
    }
    const kinds = [...new Set(known.map((index) => values[index]))];
    const shades = kinds.length === 2 ? ["grey", "#d55e00"] : COLOURS;
    const own = (one) => known.filter((index) => values[index] === one);
    return [...found, ...kinds.map((one, nth) => {
      const marker = { color: shades[nth % shades.length], symbol: SYMBOLS[nth % SYMBOLS.length] };
      return trace(own(one), { name: `${escapeTags(one)} (${own(one).length.toLocaleString("en")})`, marker });
    })];
  }

  const layout = {
    hovermode: "closest", dragmode: "lasso", uirevision: "kept", margin: { l: 8, r: 8, t: 8, b: 8 },
    xaxis: { visible: false }, yaxis: { visible: false, scaleanchor: "x" }, legend: { orientation: "h", y: 1.05, itemsizing: "constant" },
    annotations: data.topics.map(({ x, y, word }) => ({
      x, y, text: word, showarrow: false, yanchor: "bottom", font: { size: 13, color: "ink" }, bgcolor: "page", opacity: 0.8, borderpad: 0, captureevents: false,
    })),
  };
  await draw(place, traces(), layout, { scrollZoom: true, modeBarButtonsToRemove: ["autoScale2d"] });
  const chart = charts.at(-1);

  function redraw() {
    chart.traces = traces();
    return render(chart);
  }

  function choose(indices) {
    chosen = indices;
    clear.disabled = save.disabled = chosen === null;
    state.textContent = chosen === null ? "" : `${chosen.length.toLocaleString("en")} of ${count.toLocaleString("en")} problems`;
    const shown = (chosen ?? []).slice(0, MOST_ROWS);
    const rows = shown.map((index) => make("tr", {}, data.columns.map(({ values, kind }) => make("td", { class: kind === "number" && "number" }, cell(values[index])))));
    list.replaceChildren(...(shown.length ? [
      make("table", {}, make("thead", {}, make("tr", {}, data.columns.map(({ name, kind }) => make("th", { scope: "col", class: kind === "number" && "number" }, name)))), make("tbody", {}, rows)),
      chosen.length > shown.length && make("p", { class: "muted" }, `The first ${shown.length}; a saved list has them all.`),
    ].filter(Boolean) : []));
    return redraw();
  }

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    choose(words.length ? all.filter((index) => words.every((word) => questions[index].includes(word))) : null);
  }

  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 150); });
  by.addEventListener("change", redraw);
  clear.addEventListener("click", () => { search.value = ""; layout.selections = []; choose(null); });
  place.on("plotly_selected", (event) => {
    if (event?.points) { search.value = ""; choose(event.points.map((point) => point.customdata).sort((a, b) => a - b)); }
  });
  save.addEventListener("click", () => {
    const lines = [data.columns.map(({ name }) => name), ...chosen.map((index) => data.columns.map(({ values }) => cell(values[index])))];
    const file = new Blob([lines.map((line) => line.join("\t") + "\n").join("")], { type: "text/tab-separated-values" });
    const link = make("a", { href: URL.createObjectURL(file), download: `${data.name}-list.tsv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

function cell(value) {
  return value === null ? "" : typeof value === "number" ? String(+value.toFixed(4)) : value;
}
