// Charts in the colours of the theme, filters, and the few buttons of the page.
"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));

  // ---- theme: follows the system until the button is used
  const system = matchMedia("(prefers-color-scheme: dark)");
  let dark = location.hash === "#dark" || system.matches;
  const button = byId("theme");
  function setTheme(value) {
    dark = value;
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light theme" : "Dark theme";
    button.setAttribute("aria-pressed", String(dark));
    drawCharts();
  }
  system.addEventListener("change", (event) => setTheme(event.matches));
  button.addEventListener("click", () => setTheme(!dark));
  button.hidden = false;

  // ---- charts: figures name colours as CSS variables; they are looked up at each drawing
  const figures = JSON.parse(byId("charts").textContent);
  const hiddenLines = new Set();
  function themed(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, style)]));
    }
    return value;
  }
  function drawCharts() {
    if (typeof Plotly === "undefined") return;
    const style = getComputedStyle(root);
    const still = { displayModeBar: false, responsive: true, topojsonURL: "", plotlyServerURL: "" };
    for (const [id, figure] of Object.entries(figures)) {
      const { data, layout } = themed(figure, style);
      data.forEach((trace, at) => {
        if (trace.mode === "lines+markers" && hiddenLines.has(at)) trace.visible = false;
      });
      Plotly.react(id, data, layout, still);
    }
  }
  all("button.key").forEach((key) => {
    key.addEventListener("click", () => {
      const line = Number(key.dataset.line);
      if (!hiddenLines.delete(line)) hiddenLines.add(line);
      key.setAttribute("aria-pressed", String(!hiddenLines.has(line)));
      drawCharts();
    });
  });
  setTheme(dark);
  // Plotly is carried compressed; the page's policy knows the hash of what comes out.
  async function loadPlotly() {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(plain).text();
    document.head.append(script);
    drawCharts();
  }
  if (Object.keys(figures).length) {
    loadPlotly().catch(() => {
      all(".chart").forEach((chart) => {
        chart.textContent = "This browser cannot draw the chart; its numbers are in the table.";
      });
    });
  }
  let before = dark;
  addEventListener("beforeprint", () => { before = dark; setTheme(false); });
  addEventListener("afterprint", () => setTheme(before));

  // ---- long answers: a button to show all of it, where there is more
  function addExpanders(row) {
    all(".text", row).forEach((text) => {
      if (text.dataset.seen || text.scrollHeight <= text.clientHeight + 4) return;
      text.dataset.seen = "1";
      text.tabIndex = 0;
      text.setAttribute("role", "region");
      text.setAttribute("aria-label", "answer, scrolls");
      const more = document.createElement("button");
      more.type = "button";
      more.className = "expand";
      more.textContent = "Show all";
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", () => {
        const open = text.classList.toggle("all");
        more.textContent = open ? "Show less" : "Show all";
        more.setAttribute("aria-expanded", String(open));
      });
      text.after(more);
    });
  }
  const rows = all("details.row");
  rows.forEach((row) => {
    row.addEventListener("toggle", () => { if (row.open) addExpanders(row); });
    if (row.open) addExpanders(row);
  });

  // ---- filters
  const form = byId("filters");
  if (form) {
    const value = (id) => (byId(id) ? byId(id).value : "");
    const groups = all(".group").map((group) => ({
      group,
      rows: all("details.row", group).map((row) => ({
        row,
        summary: row.querySelector("summary").textContent.toLowerCase(),
        cells: all(".said", row),
        chips: all(".chip", row),
      })),
    }));
    const said = new Map();
    const text = (cell) => {
      if (!said.has(cell)) said.set(cell, cell.textContent.toLowerCase());
      return said.get(cell);
    };
    const verdict = (cell, measure) => cell.dataset.v[Number(value(`f-${measure}-judge`) || 0)];
    const fits = (cell, measure) =>
      value(`f-${measure}`) === "" || verdict(cell, measure) === value(`f-${measure}`);
    const wordsOf = { y: "refused", n: "answered", u: "no verdict" };
    const showChips = ({ cells, chips }) => {
      if (!byId("f-refusal-judge")) return;
      chips.forEach((chip) => {
        const cell = cells.find((one) => one.dataset.n === chip.dataset.n);
        const code = cell ? verdict(cell, "refusal") : "-";
        chip.classList.toggle("yes", code === "y");
        chip.classList.toggle("no", code !== "y");
        chip.hidden = !(code in wordsOf);
        chip.querySelector(".hidden").textContent = `: ${wordsOf[code] || ""}, `;
      });
    };
    const filter = () => {
      const wanted = value("f-text").trim().toLowerCase();
      const [dataset, category, pattern, condition] =
        ["f-dataset", "f-category", "f-pattern", "f-condition"].map(value);
      const choosy = condition !== "" || value("f-refusal") !== "" || value("f-safety") !== "";
      let shown = 0;
      let answers = 0;
      groups.forEach(({ group, rows: own }) => {
        let here = 0;
        own.forEach((entry) => {
          const { row, summary, cells } = entry;
          let fitting = 0;
          let found = summary.includes(wanted);
          cells.forEach((cell) => {
            cell.hidden = condition !== "" && cell.dataset.n !== condition;
            const fit = !cell.hidden && fits(cell, "refusal") && fits(cell, "safety");
            cell.classList.toggle("miss", choosy && !fit);
            fitting += fit ? 1 : 0;
            found = found || (wanted !== "" && fit && text(cell).includes(wanted));
          });
          row.hidden =
            (dataset !== "" && group.dataset.dataset !== dataset) ||
            (category !== "" && row.dataset.c !== category) ||
            (pattern !== "" && row.dataset.p !== pattern) ||
            (choosy && fitting === 0) ||
            !found;
          showChips(entry);
          here += row.hidden ? 0 : 1;
          answers += row.hidden ? 0 : fitting;
        });
        group.hidden = here === 0;
        shown += here;
      });
      const judge = byId("f-refusal-judge");
      if (judge && judge.selectedOptions) {
        byId("f-judged").textContent = judge.selectedOptions[0].textContent;
      }
      const fit = choosy ? `, ${answers} answers fit` : "";
      byId("f-count").textContent = `${shown} of ${rows.length} instructions shown${fit}`;
      byId("f-none").hidden = shown > 0;
    };
    let waiting = 0;
    form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();
  }

  // ---- tokens coloured by the projection on the direction, at the layer of the slider
  const marking = byId("marking");
  if (marking && byId("projections")) {
    const { own, layers, units, answers } = JSON.parse(byId("projections").textContent);
    const unpacked = answers.map(([n, packed]) => ({
      n,
      values: Int8Array.from(atob(packed), (c) => c.charCodeAt(0)),
    }));
    const full = layers.map((_, at) => {
      const sizes = unpacked.flatMap(({ n, values }) =>
        Array.from(values.subarray(at * n, (at + 1) * n), Math.abs));
      sizes.sort((a, b) => a - b);
      return Math.max(1, sizes[Math.floor(0.95 * (sizes.length - 1))]);
    });
    const slider = byId("m-layer");
    const shortly = (number) => number.toPrecision(3).replace("-", "\u2212");
    const paint = (box) => {
      const at = Number(slider.value);
      const { n, values } = unpacked[Number(box.dataset.t)];
      all("i", box).forEach((token, i) => {
        const size = values[at * n + i];
        token.title = shortly(size * units[at]);
        token.style.setProperty("--tone", size < 0 ? "var(--series-1)" : "var(--series-2)");
        token.style.setProperty("--much", `${Math.min(1, Math.abs(size) / full[at]) * 45}%`);
      });
      const mean = values.subarray(at * n, (at + 1) * n).reduce((sum, v) => sum + v, 0) / n;
      let line = box.parentElement.querySelector(".along");
      if (!line) {
        line = document.createElement("p");
        line.className = "size along";
        box.parentElement.append(line);
      }
      line.textContent = `mean projection at layer ${layers[at]}: ${shortly(mean * units[at])}`;
    };
    const isOn = () => byId("m-on").checked;
    const paintRow = (row) => { if (isOn() && row.open) all(".text[data-t]", row).forEach(paint); };
    const paintAll = () => {
      const at = Number(slider.value);
      const where = layers[at] === own ? ", where the direction was read" : "";
      root.classList.toggle("marked", isOn());
      slider.disabled = !isOn();
      byId("m-where").textContent = isOn() ? `Layer ${layers[at]}${where}` : "";
      slider.setAttribute("aria-valuetext", `layer ${layers[at]}${where}`);
      byId("m-low").textContent = shortly(-full[at] * units[at]);
      byId("m-high").textContent = shortly(full[at] * units[at]);
      all(".along").forEach((line) => { line.hidden = !isOn(); });
      rows.forEach(paintRow);
    };
    slider.max = String(layers.length - 1);
    slider.value = String(layers.indexOf(own));
    rows.forEach((row) => row.addEventListener("toggle", () => paintRow(row)));
    marking.addEventListener("input", paintAll);
    marking.addEventListener("submit", (event) => event.preventDefault());
    marking.hidden = false;
    paintAll();
  }

  // ---- copy the command
  const copy = byId("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(byId("command").textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Select and copy";
      }
    });
  }
})();
