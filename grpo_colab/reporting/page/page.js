// The report: its charts, the list of completions, and the problems before and after. It follows document.js.
const PAGE = 25; // rows of a list at a time
const MOST_MARKS = 500; // marked words of one text
const lists = {}; // name -> { fields, search }; the values of the fields are kept in the address

function start(data) {
  if (document.getElementById("charts")) drawCharts(data.charts);
}

function finish(rest) {
  if (document.getElementById("completions")) completions(rest.completions, rest.runs);
  if (document.getElementById("problems")) problems(rest.problems, rest.runs);
  restoreFromAddress();
}

// ---------------------------------------------------------------------------------------------------------- charts

/** Draw the charts that are seen at once, and the others when the browser is idle, or when the page is printed. */
function drawCharts(found) {
  const place = document.getElementById("charts");
  const [main, more] = [false, true].map((later) => found.filter((chart) => Boolean(chart.more) === later).map(figure));
  place.append(make("div", { class: "charts" }, main.map((one) => one.element)));
  if (more.length) {
    const grid = make("div", { class: "charts" }, more.map((one) => one.element));
    const ontoggle = once(() => more.forEach((one) => one.show()));
    place.append(make("details", { ontoggle }, make("summary", {}, `More metrics (${more.length})`), grid));
  }
  if (found.some((chart) => chart.layout.shapes?.length))
    place.prepend(make("p", { class: "muted" }, "Vertical dotted lines: steps with a warning."));
  const seen = main.filter((one) => one.element.getBoundingClientRect().top < innerHeight);
  waiting.push(...main.slice(seen.length).map((one) => one.show));
  seen.forEach((one) => one.show());
  const later = window.requestIdleCallback ?? setTimeout;
  const next = () => {
    waiting.shift()?.();
    if (waiting.length) later(next);
    else place.dataset.drawn = "yes";
  };
  later(next);
}

/** Make the figure of a chart: its title, its caption, and its values as tables that are made when they are opened. */
function figure(chart) {
  const names = chart.layout.showlegend ? chart.traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name) : [];
  const style = `--rows: ${legendRows(names, innerWidth < 960 ? innerWidth - 80 : 430)}; --paper-rows: ${legendRows(names, 290)}`;
  const place = make("div", { class: "chart", role: "img", "aria-label": `Chart: ${chart.title}`, style });
  const values = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Values of ${chart.title}` });
  const ontoggle = once(() => {
    if (chart.ends.length) values.append(table(["", "first", "last", "least", "most"], chart.ends, { class: "ends" }));
    values.append(table(chart.head, chart.table, { class: "steps" }, chart.percent));
  });
  const element = make(
    "figure", {}, make("h3", {}, chart.title), place, make("figcaption", {}, chart.caption),
    make("details", { class: "values", ontoggle }, make("summary", {}, "Values"), values),
  );
  const traces = chart.traces.map((trace) => ({ ...trace, name: escapeTags(trace.name) }));
  const touch = matchMedia("(pointer: coarse)").matches; // there a drag scrolls
  const steps = extent(chart.traces.flatMap((trace) => trace.x));
  const range = steps[0] === steps[1] ? [steps[0] - 0.6, steps[1] + 0.6] : undefined; // of one step alone
  const xaxis = { range, ...chart.layout.xaxis };
  Object.assign(xaxis, stepTicks(...(xaxis.range ?? steps)));
  const layout = { ...chart.layout, xaxis, dragmode: touch ? false : "zoom" };
  const modeBarButtonsToRemove = ["pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"];
  const show = () => {
    draw(place, traces, layout, { modeBarButtonsToRemove, displayModeBar: touch ? false : "hover" });
    place.on("plotly_relayout", () => { // after a zoom, too, the ticks are at whole steps
      const { range: seen, dtick } = place._fullLayout.xaxis;
      const ticks = stepTicks(...seen);
      if (ticks.dtick !== dtick) Plotly.relayout(place, { "xaxis.dtick": ticks.dtick });
    });
  };
  return { element, show };
}

/** Return how many rows a legend of these names has about, in so many pixels: its columns are as wide as the longest name. */
function legendRows(names, width) {
  const columns = Math.max(1, Math.floor(width / (6.6 * Math.max(0, ...names.map((name) => name.length)) + 46)));
  return Math.ceil(names.length / columns);
}

/** Return ticks for these steps: seven or so, at whole numbers that are 1, 2 or 5 times a power of ten apart. */
function stepTicks(low, high) {
  const apart = Math.max(1, (high - low) / 7);
  const power = 10 ** Math.floor(Math.log10(apart));
  return { tick0: 0, dtick: [1, 2, 5, 10].map((times) => times * power).find((one) => one >= apart) };
}

/** Make a table. Numbers are shown in per cent where `percent` is set, but for those of the first column, the steps. */
function table(head, rows, properties, percent = false) {
  const text = (one, nth) => (one === null ? "–" : typeof one !== "number" ? one : percent && nth > 0 ? `${short(100 * one)} %` : short(one));
  const cells = (tag, row) => row.map((one, nth) => make(tag, { class: "number", scope: tag === "th" ? "col" : null }, text(one, nth)));
  return make("table", properties, make("tr", {}, cells("th", head)), rows.map((row) => make("tr", {}, cells("td", row))));
}

function once(work) {
  let done = false;
  return () => {
    if (!done) work();
    done = true;
  };
}

// ----------------------------------------------------------------------------------------------------------- lists

/**
 * Show a list with its tools, PAGE rows at a time. `fields` are its inputs by name. `pick()` returns the numbers of the
 * rows to show, in order; `row(n)` and `detail(n)` return what a row shows closed and opened. Arrow keys move from row
 * to row.
 */
function showList(name, { fields, tools, columns, noun, pick, row, detail }) {
  let found = [], page = 0;
  const count = make("span", { role: "status" });
  const list = make("ul", { class: "list", style: `--columns: ${columns}` });
  const before = make("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const after = make("button", { type: "button", onclick: () => turn(1) }, "Next");

  function show() {
    const last = Math.min(found.length, (page + 1) * PAGE);
    count.textContent = found.length ? `${page * PAGE + 1} to ${last} of ${found.length} ${noun}` : `No ${noun} are like that.`;
    before.disabled = page === 0;
    after.disabled = last === found.length;
    list.replaceChildren(...found.slice(page * PAGE, last).map(item));
  }

  function item(n) {
    const line = make("button", { type: "button", class: "row", "aria-expanded": "false", onclick: toggle }, row(n));
    const element = make("li", {}, line);
    function toggle() {
      const open = line.getAttribute("aria-expanded") === "true";
      line.setAttribute("aria-expanded", String(!open));
      if (open) element.lastChild.remove();
      else element.append(make("div", { class: "detail" }, detail(n).flat(Infinity)));
    }
    return element;
  }

  function turn(by) {
    const pressed = document.activeElement;
    page = Math.max(0, Math.min(Math.ceil(found.length / PAGE) - 1, page + by));
    show();
    if (pressed.disabled) (by < 0 ? after : before).focus(); // the button was disabled by reaching the first or last page
  }

  function search() {
    [found, page] = [pick(), 0];
    show();
  }

  list.addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("row")) return;
    const rows = [...list.querySelectorAll(":scope > li > .row")];
    const at = rows.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to >= rows.length && !after.disabled) turn(1), list.querySelector(".row").focus();
    else if (to < 0 && !before.disabled) turn(-1), [...list.querySelectorAll(".row")].at(-1).focus();
    else rows[Math.max(0, Math.min(rows.length - 1, to))].focus();
  });
  for (const field of Object.values(fields)) field.addEventListener("input", () => (search(), saveToAddress()));
  lists[name] = { fields, search };
  document.getElementById(name).append(
    make("div", { class: "tools", role: "search" }, tools), make("div", { class: "pages" }, before, after, count), list,
  );
  search();
}

function completions(data, runs) {
  const asked = data.asked ?? data.prompts.map((prompt) => prompt.at(-1)[1]);
  const all = data.text.map((_, n) => n);
  const groups = groupByKey(all, data.group);
  const verdicts = [...new Set(data.verdict)].filter(Boolean).sort();
  const steps = extent(data.step), rewards = extent(data.reward);
  const fields = {
    words: make("input", { type: "search", placeholder: "words in question or completion" }),
    from: numberField(steps[0]), to: numberField(steps[1]), least: numberField(rewards[0], "any"), most: numberField(rewards[1], "any"),
    verdict: select(["any", ...(verdicts.length ? ["right", "not right", ...verdicts.filter((one) => one !== "right")] : [])]),
    run: select([["all", "all"], ...runs.map((run, n) => [String(n), run])]),
    sort: select(["by step", "highest reward", "lowest reward", "highest advantage", "longest"]),
  };
  let words = [];

  function pick() {
    words = toPatterns(fields.words.value);
    const [from, to, least, most] = ["from", "to", "least", "most"].map((name) => (fields[name].value === "" ? null : Number(fields[name].value)));
    const { verdict, run, sort } = Object.fromEntries(["verdict", "run", "sort"].map((name) => [name, fields[name].value]));
    const among = (value, low, high) => (low === null || (value !== null && value >= low)) && (high === null || (value !== null && value <= high));
    const found = all.filter(
      (n) =>
        (run === "all" || String(data.run[n]) === run) && among(data.step[n], from, to) && among(data.reward[n], least, most) &&
        (verdict === "any" || data.verdict[n] === verdict || (verdict === "not right" && data.verdict[n] && data.verdict[n] !== "right")) &&
        words.every((word) => word.test(data.text[n]) || word.test(asked[data.prompt[n]])),
    );
    const worth = { "highest reward": data.reward, "lowest reward": data.reward, "highest advantage": data.advantage }[sort];
    if (worth) found.sort((a, b) => (sort === "lowest reward" ? descending(worth[b], worth[a]) : descending(worth[a], worth[b])));
    if (sort === "longest") found.sort((a, b) => data.text[b].length - data.text[a].length);
    return found;
  }

  const row = (n) => [
    runs.length > 1 && make("span", { class: "short said" }, runs[data.run[n]]),
    make("span", {}, `step ${data.step[n] ?? "?"}`),
    make("span", { class: "number" }, short(data.reward[n])),
    verdicts.length > 0 && verdictMark(data.verdict[n]),
    make("span", { class: "short", dir: "auto" }, highlight(excerpt(asked[data.prompt[n]], words), words)),
    make("span", { class: "short said", dir: "auto" }, highlight(excerpt(data.text[n], words), words)),
  ];

  /** What each reward gave, times its weight, and what that paid; their sum is the reward. */
  const rewardTable = (n) => {
    const cell = (...texts) => make("td", { class: "number" }, texts);
    const weights = data.weights[data.weighted[n]];
    const parts = data.names.map((name, at) => {
      const value = data.parts[n][at];
      return value !== null && make("tr", {}, make("th", { scope: "row" }, name), cell(`${short(value)} × ${short(weights[at])} =`), cell(short(value * weights[at])));
    });
    const sums = [["reward", data.reward[n]], ["advantage", data.advantage[n]]].map(([name, value]) => value !== null && make("tr", {}, make("th", { scope: "row" }, name), cell(), cell(make("b", {}, short(value)))));
    const extra = data.extra[n].map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { dir: "auto", colspan: 2 }, value)));
    return make("table", { class: "parts" }, parts, sums, extra);
  };

  function group(n) {
    const members = [...groups.get(data.group[n])].sort((a, b) => descending(data.reward[a], data.reward[b]));
    const one = (m, nth) =>
      make(
        "article", { class: m === n ? "this" : null },
        make("div", { class: "said" }, `${nth + 1} of ${members.length}${m === n ? ", the one above" : ""}`),
        make("h4", {}, `reward ${short(data.reward[m])} `, verdicts.length > 0 && verdictMark(data.verdict[m])), rewardTable(m), pre(data.text[m], words),
      );
    return make("div", { class: "group", tabindex: 0, role: "region", "aria-label": `The ${members.length} completions of this prompt` }, members.map(one));
  }

  function detail(n) {
    const size = groups.get(data.group[n]).length;
    const place = make("div");
    const button = make("button", { type: "button", "aria-expanded": "false" }, `Its group: ${size} completions side by side`);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      place.replaceChildren(...(open ? [] : [group(n)]));
    });
    return [
      data.prompts[data.prompt[n]].map(([role, content]) => [make("div", { class: "said" }, role || "prompt"), pre(content, words)]),
      make("div", { class: "said" }, "completion"), pre(data.text[n], words),
      data.answer[n] !== null && make("p", { class: "said" }, "right is ", make("b", { class: "right" }, data.answer[n])), rewardTable(n),
      size > 1 && make("p", {}, button), place,
    ];
  }

  const tools = [
    label("Search", fields.words), make("div", { class: "range", role: "group", "aria-label": "Step" }, label("Step from", fields.from), label("to", fields.to)),
    make("div", { class: "range", role: "group", "aria-label": "Reward" }, label("Reward from", fields.least), label("to", fields.most)),
    verdicts.length > 0 && label("Verdict", fields.verdict), runs.length > 1 && label("Run", fields.run), label("Sort", fields.sort),
  ];
  const columns = `${runs.length > 1 ? "minmax(4rem, 8rem) " : ""}4.6rem 3.6rem ${verdicts.length ? "8.2rem " : ""}minmax(0, 2fr) minmax(0, 3fr)`;
  showList("completions", { fields, tools, columns, noun: "completions", pick, row, detail });
}

function problems(data, runs) {
  const kinds = data.kinds.filter((kind) => data.rows.some((row) => row.kind === kind));
  const counted = kinds.map((kind) => [kind, `${kind} (${data.rows.filter((row) => row.kind === kind).length})`]);
  const fields = {
    words: make("input", { type: "search", placeholder: "words in question or answers" }),
    kind: select([["any", "any"], ...counted]),
    run: select([["all", "all"], ...runs.map((run, n) => [String(n), run])]),
  };
  let words = [];

  function pick() {
    words = toPatterns(fields.words.value);
    const { kind, run } = { kind: fields.kind.value, run: fields.run.value };
    return data.rows.map((_, n) => n).filter((n) => {
      const row = data.rows[n];
      return (
        (run === "all" || String(row.run) === run) && (kind === "any" || row.kind === kind) &&
        words.every((word) => [row.asked ?? row.question, row.before, row.after].some((text) => text !== null && word.test(text)))
      );
    });
  }

  const colour = { gained: "good", lost: "bad" };
  const row = (n) => [
    runs.length > 1 && make("span", { class: "short said" }, runs[data.rows[n].run]),
    make("b", { class: colour[data.rows[n].kind] ?? "muted" }, data.rows[n].kind),
    make("span", { class: "short", dir: "auto" }, highlight(excerpt(data.rows[n].asked ?? data.rows[n].question, words), words)),
  ];
  const side = (name, text, verdict) =>
    make("div", {}, make("div", { class: "said" }, name, " ", verdict && verdictMark(verdict)), text === null ? make("p", { class: "muted" }, "not asked") : pre(text, words));
  const detail = (n) => {
    const one = data.rows[n];
    return [
      pre(one.question, words), make("p", { class: "said" }, "right is ", make("b", { class: "right" }, one.answer)),
      make("div", { class: "sides" }, side("before", one.before, one.before_verdict), side("after", one.after, one.after_verdict)),
    ];
  };
  const tools = [label("Search", fields.words), label("Which", fields.kind), runs.length > 1 && label("Run", fields.run)];
  const columns = `${runs.length > 1 ? "minmax(4rem, 8rem) " : ""}8rem minmax(0, 1fr)`;
  showList("problems", { fields, tools, columns, noun: "problems", pick, row, detail });
}

// ---------------------------------------------------------------------------------------------------- their pieces

/** Return a pattern per word of a search, which ignores case. */
function toPatterns(text) {
  return text.split(/\s+/u).filter(Boolean).map((word) => new RegExp(word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "iu"));
}

/** Split a text into pieces, with the words that are searched for in <mark>. */
function highlight(text, words) {
  if (!words.length) return [text];
  const any = new RegExp(words.map((word) => word.source).join("|"), "giu");
  const pieces = [];
  let end = 0;
  for (const hit of text.matchAll(any)) {
    if (pieces.length > 2 * MOST_MARKS) break;
    pieces.push(text.slice(end, hit.index), make("mark", {}, hit[0]));
    end = hit.index + hit[0].length;
  }
  return [...pieces, text.slice(end)];
}

/** Return a line's worth of a text, from a little before the first word that is searched for. */
function excerpt(text, words) {
  const hits = words.map((word) => text.search(word)).filter((at) => at >= 0);
  const from = Math.max(0, Math.min(...hits, Infinity) - 30);
  const line = text.slice(Number.isFinite(from) && from > 0 ? from : 0).slice(0, 200).replace(/\s+/gu, " ");
  return from > 0 && Number.isFinite(from) ? `…${line}` : line;
}

function pre(text, words) {
  return make("pre", { dir: "auto" }, highlight(text, words));
}

function verdictMark(verdict) {
  const right = verdict === "right";
  return make("span", { class: right ? "good" : "bad" }, verdict ? `${right ? "✓" : "✗"} ${verdict}` : "");
}

function label(text, field) {
  return make("label", {}, text, field);
}

function numberField(value, step = "1") {
  return make("input", { type: "number", step, placeholder: short(value) });
}

/** Make a choice among texts, or among [value, text] pairs. */
function select(options) {
  return make("select", {}, options.map((one) => (Array.isArray(one) ? make("option", { value: one[0] }, one[1]) : make("option", { value: one }, one))));
}

/** Return the least and the most of the values, without the nulls. */
function extent(values) {
  let low = null, high = null;
  for (const value of values) if (value !== null) [low, high] = [low === null || value < low ? value : low, high === null || value > high ? value : high];
  return [low, high];
}

/** Compare two numbers for a descending order in which null is last. */
function descending(a, b) {
  return (b ?? -Infinity) > (a ?? -Infinity) ? 1 : (b ?? -Infinity) < (a ?? -Infinity) ? -1 : 0;
}

/** Return the numbers in a Map by their keys. */
function groupByKey(numbers, keys) {
  const found = new Map();
  for (const n of numbers) found.has(keys[n]) ? found.get(keys[n]).push(n) : found.set(keys[n], [n]);
  return found;
}

// ---------------------------------------------------------------------------------------------------- the address

/** Keep the searches and filters in the page's address, so that they can be linked. A notebook's frame has none. */
function saveToAddress() {
  const kept = new URLSearchParams();
  for (const [name, { fields }] of Object.entries(lists))
    for (const [key, field] of Object.entries(fields))
      if (field.value !== (field.options?.[0].value ?? "")) kept.set(`${name}.${key}`, field.value);
  try {
    history.replaceState(null, "", `#?${kept}`);
  } catch {} // in a frame without an address
}

/** Bring the searches and filters of the address back. */
function restoreFromAddress() {
  if (!location.hash.startsWith("#?")) return;
  const kept = new URLSearchParams(location.hash.slice(2));
  for (const [name, { fields, search }] of Object.entries(lists)) {
    const ours = Object.keys(fields).filter((key) => kept.has(`${name}.${key}`));
    for (const key of ours) fields[key].value = kept.get(`${name}.${key}`);
    if (ours.length) search(), document.getElementById(name).scrollIntoView();
  }
}
