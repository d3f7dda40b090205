// The charts of the page: what their controls say is what they show.
const MEDIA = window.matchMedia("(prefers-color-scheme: dark)");
const views = new Map();
let printing = false;

const byId = (id) => document.getElementById(id);
const json = (id) => JSON.parse(byId(id).textContent);
const dark = () => MEDIA.matches && !printing;

function unpacked(sheet) {
  return sheet.rows.map((row) => Object.fromEntries(sheet.fields.map((name, i) => [name, row[i]])));
}

function state(form) {
  const found = {};
  for (const field of form.querySelectorAll("[data-param]")) {
    const name = field.dataset.param;
    if (field.dataset.kind === "several") {
      found[name] ??= [];
      if (!field.checked) found[name].push(field.value);
    } else if (field.type === "checkbox") found[name] = field.checked;
    else if (field.type === "range") found[name] = JSON.parse(field.dataset.values)[field.value];
    else found[name] = field.value;
  }
  return found;
}

// What the sheet does not have is not offered; a value that it lacks gives way to the first it has.
function restrict(form, sheet) {
  for (const [name, allowed] of Object.entries(sheet.allow)) {
    for (const field of form.querySelectorAll(`[data-param="${name}"]`)) {
      if (field.type === "checkbox") {
        field.disabled = !allowed.includes(true);
        field.checked = field.checked && !field.disabled;
      } else {
        for (const option of field.options) {
          option.hidden = option.disabled = !allowed.includes(option.value);
        }
        if (!allowed.includes(field.value)) field.value = allowed[0];
        field.disabled = allowed.length < 2;
      }
    }
  }
}

// What the controls say, in words: for paper, where they are not.
function told(form) {
  const parts = [];
  for (const field of form?.querySelectorAll("[data-param]") ?? []) {
    const label = field.closest("label");
    if (field.tagName === "SELECT") {
      parts.push(`${label.firstElementChild.textContent}: ${field.selectedOptions[0]?.textContent}`);
    } else if (field.type === "range") parts.push(label.firstElementChild.textContent);
    else if (field.dataset.kind !== "several" && field.checked) parts.push(label.textContent);
  }
  return parts.join("; ");
}

function visible(now, rows) {
  const hidden = now.hidden ?? [];
  return rows.filter((row) => !hidden.includes(row.model) && (now.nulls !== false || !row.null));
}

function fill(chart, now, shown) {
  const body = byId(`${chart.id}-table`);
  if (!body) return;
  const named = chart.table.map(([field]) => field.replace(/\{(\w+)\}/g, (_, name) => now[name]));
  body.replaceChildren(
    ...shown.map((row) => {
      const line = document.createElement("tr");
      named.forEach((field, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.textContent = row[field] ?? "-";
        line.append(cell);
      });
      return line;
    }),
  );
}

function sheetOf(chart, now) {
  return chart.sheets[chart.by.map((name) => String(now[name])).join("|")];
}

// A grid has as many columns as there is room for.
function specOf(chart, now) {
  const spec = structuredClone(chart.spec);
  const walk = (node) => {
    if (Array.isArray(node)) node.forEach(walk);
    else if (node && typeof node === "object") {
      for (const [name, scale] of Object.entries(chart.log)) {
        const channel = node.encoding?.[name];
        if (!channel) continue;
        channel.scale = { ...channel.scale, ...scale };
        for (const key of Object.keys(scale)) if (scale[key] === null) delete channel.scale[key];
      }
      Object.values(node).forEach(walk);
    }
  };
  if (now.log) walk(spec);
  if (spec.columns) {
    const room = byId(`${chart.id}-view`).clientWidth;
    spec.columns = Math.max(1, Math.min(spec.columns, Math.floor((room - 30) / (spec.spec.width + 26))));
  }
  return spec;
}

async function show(chart) {
  const form = byId(`${chart.id}-controls`);
  let now = form ? state(form) : {};
  const sheet = sheetOf(chart, now);
  const note = byId(`${chart.id}-note`);
  if (sheet && form) {
    restrict(form, sheet);
    now = state(form);
  }
  for (const range of form?.querySelectorAll("input[type=range]") ?? []) {
    const told = JSON.parse(range.dataset.labels)[range.value];
    byId(`${range.id}-told`).textContent = told;
    range.setAttribute("aria-valuetext", told);
  }
  byId(`${chart.id}-state`).textContent = told(form);
  const rows = sheet ? unpacked(sheet) : [];
  const shown = visible(now, rows);
  note.textContent = !sheet ? "This was not measured." : shown.length ? sheet.note : "No model is ticked.";
  fill(chart, now, shown);
  byId(`${chart.id}-view`).classList.toggle("empty", !shown.length);
  for (const button of byId(chart.id).querySelectorAll("[data-figure]")) button.disabled = !shown.length;
  if (!shown.length) return done(chart);
  const params = { form: "raw", ...now, ...(sheet?.params ?? {}), dark: dark() };
  let held = views.get(chart.id);
  if (!held || held.log !== Boolean(now.log)) {
    held?.result.finalize();
    const spec = specOf(chart, now);
    for (const param of spec.params) if (param.name in params) param.value = params[param.name];
    spec.datasets = { rows };
    const result = await vegaEmbed(byId(`${chart.id}-view`), spec, {
      ast: true, renderer: "svg", actions: false, defaultStyle: false, hover: false,
      tooltip: { disableDefaultStyle: true, id: "tooltip" }, downloadFileName: chart.name,
    });
    held = { result, log: Boolean(now.log), names: new Set(spec.params.map((p) => p.name)) };
    views.set(chart.id, held);
  } else {
    const view = held.result.view;
    for (const [name, value] of Object.entries(params)) {
      if (held.names.has(name)) view.signal(name, value);
    }
    view.data("rows", rows);
    await view.runAsync();
  }
  done(chart);
}

function done(chart) {
  byId(chart.id).dataset.shown = String(Number(byId(chart.id).dataset.shown ?? 0) + 1);
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// On paper colours are those of a light page.
async function saveFigure(chart, kind) {
  const view = views.get(chart.id).result.view;
  view.signal("dark", false);
  await view.runAsync();
  if (kind === "svg") {
    save(`${chart.name}.svg`, new Blob([await view.toSVG()], { type: "image/svg+xml" }));
  } else {
    const canvas = await view.toCanvas(2);
    save(`${chart.name}.png`, await new Promise((done) => canvas.toBlob(done, "image/png")));
  }
  view.signal("dark", dark());
  await view.runAsync();
}

async function text(id) {
  const packed = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function theme() {
  for (const { result } of views.values()) result.view.signal("dark", dark()).run();
}

async function start() {
  const charts = json("charts");
  const drawn = charts.map(show);
  for (const chart of charts) {
    byId(`${chart.id}-controls`)?.addEventListener("input", () => show(chart));
    for (const button of byId(chart.id).querySelectorAll("[data-figure]")) {
      button.addEventListener("click", () => saveFigure(chart, button.dataset.figure));
    }
  }
  for (const button of document.querySelectorAll("[data-file]")) {
    button.addEventListener("click", async () => {
      save(button.dataset.name, new Blob([await text(button.dataset.file)], { type: "text/csv" }));
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const lines = byId(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(lines.textContent);
        button.textContent = "Copied";
      } catch {
        window.getSelection().selectAllChildren(lines); // where a file may not write to it
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
  MEDIA.addEventListener("change", theme);
  window.addEventListener("beforeprint", () => {
    printing = true;
    for (const fold of document.querySelectorAll("details.printed:not([open])")) {
      fold.dataset.closed = "";
      fold.open = true;
    }
    theme();
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    for (const fold of document.querySelectorAll("details[data-closed]")) {
      delete fold.dataset.closed;
      fold.open = false;
    }
    theme();
  });
  await Promise.all(drawn);
  document.documentElement.dataset.ready = "";
}

start();
