// Draws every .flame figure from its JSON. Only frames of half a pixel and more become elements, so 50,000 frames are fast.
(() => {
"use strict";
const NS = "http://www.w3.org/2000/svg", ROW = 18, CHAR = 6.65, MIN = 0.5;
const make = (tag, attributes, text) => { const e = document.createElement(tag); for (const k in attributes) e.setAttribute(k, attributes[k]); if (text !== undefined) e.textContent = text; return e; };

function flame(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const frame = data.frame, value = data.value, depth = data.depth, n = frame.length, total = value[0] || 1;
  const end = new Int32Array(n), start = new Float64Array(n), parent = new Int32Array(n), own = Float64Array.from(value);
  const open = [], filled = [];
  for (let i = 0; i < n; i++) {
    while (open.length > depth[i]) end[open.pop()] = i;
    const p = open.length ? open[open.length - 1] : -1;
    parent[i] = p;
    start[i] = p < 0 ? 0 : filled[p];
    if (p >= 0) { filled[p] += value[i]; own[p] -= value[i]; }
    filled[i] = start[i];
    open.push(i);
  }
  while (open.length) end[open.pop()] = n;
  let deepest = 0;
  for (let i = 0; i < n; i++) if (depth[i] > deepest) deepest = depth[i];

  let zoomed = 0, cursor = 0, icicle = true, query = "", hits = null;
  const bar = make("div", { class: "flame-bar" });
  const search = make("input", { type: "search", placeholder: "Search (press /)", "aria-label": "Search frames" });
  const found = make("span", { class: "flame-found", role: "status" });
  const reset = make("button", { type: "button" }, "Reset zoom");
  const turn = make("button", { type: "button" }, "Flame");
  bar.append(search, reset, turn, found);
  const box = make("div", { class: "flame-box" });
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-label", `${root.dataset.title}: flame graph. Arrow keys move, Enter zooms, Escape resets, / searches.`);
  box.append(svg);
  const status = make("div", { class: "flame-status", "aria-live": "polite" });
  const tip = make("div", { class: "flame-tip", hidden: "" });
  root.append(bar, box, status, tip);

  const number = (v) => {
    if (data.unit === "bytes") { let u = 0; while (v >= 1024 && u < 4) { v /= 1024; u++; } return `${+v.toPrecision(3)} ${["B", "kB", "MB", "GB", "TB"][u]}`; }
    if (data.unit === "ms") return v >= 1000 ? `${+(v / 1000).toPrecision(3)} s` : v >= 1 ? `${+v.toPrecision(3)} ms` : `${+(v * 1000).toPrecision(3)} µs`;
    return `${Math.round(v).toLocaleString("en")} samples`;
  };
  const percent = (v) => `${(100 * v / total).toFixed(v / total < 0.0995 ? 1 : 0)} %`;
  const describe = (i, into) => {
    const f = data.frames[frame[i]];
    const lines = [make("b", {}, f[0]), make("br"), make("span", {}, `${number(value[i])} (${percent(value[i])}), itself ${number(Math.max(0, own[i]))} (${percent(Math.max(0, own[i]))})`)];
    if (f[1]) lines.push(make("br"), make("span", {}, f[1]));
    if (data.text && data.text[i]) lines.push(make("br"), make("span", {}, data.text[i]));
    into.replaceChildren(...lines);
  };

  const draw = () => {
    const width = Math.max(320, box.clientWidth - 2), path = [];
    for (let i = zoomed; i >= 0; i = parent[i]) path.unshift(i);
    const left = start[zoomed], scale = width / (value[zoomed] || 1), out = [];
    let low = 0;
    const place = (i, x, w, above) => { out.push([i, x, w, above]); if (depth[i] > low) low = depth[i]; };
    for (const i of path.slice(0, -1)) place(i, 0, width, true);
    for (let i = zoomed; i < end[zoomed];) {
      const w = value[i] * scale;
      if (w < MIN) { i = end[i]; continue; }
      place(i, (start[i] - left) * scale, w, false);
      i++;
    }
    const height = (low + 1) * ROW + 2, parts = document.createDocumentFragment();
    for (const [i, x, w, above] of out) {
      const f = data.frames[frame[i]], y = icicle ? depth[i] * ROW : height - (depth[i] + 1) * ROW;
      const r = document.createElementNS(NS, "rect");
      r.setAttribute("x", x.toFixed(2)); r.setAttribute("y", y); r.setAttribute("width", w.toFixed(2)); r.setAttribute("height", ROW - 1);
      r.setAttribute("class", `${data.classes[data.cls ? data.cls[i] : f[2]]}${above ? " above" : ""}${hits && hits[frame[i]] ? " hit" : ""}${i === cursor ? " cursor" : ""}`);
      r.dataset.i = i;
      parts.append(r);
      const room = Math.floor((w - 6) / CHAR);
      if (room > 2) {
        const t = document.createElementNS(NS, "text");
        t.setAttribute("x", (x + 3).toFixed(2)); t.setAttribute("y", y + 12.5);
        t.textContent = f[0].length <= room ? f[0] : `${Array.from(f[0].slice(0, room * 2)).slice(0, room - 1).join("")}…`;
        parts.append(t);
      }
    }
    svg.setAttribute("width", width); svg.setAttribute("height", height); svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(parts);
    reset.disabled = zoomed === 0;
    if (!icicle) box.scrollTop = box.scrollHeight;
  };
  const link = () => {
    const parts = [root.id];
    if (zoomed) parts.push(`n${zoomed}`);
    if (query) parts.push(`s=${encodeURIComponent(query)}`);
    if (!icicle) parts.push("flame");
    history.replaceState(null, "", parts.length > 1 ? `#${parts.join("/")}` : location.pathname + location.search);
  };
  const find = () => {
    hits = null; found.textContent = "";
    if (query) {
      const wanted = query.toLowerCase();
      hits = data.frames.map((f) => f[0].toLowerCase().includes(wanted) || f[1].toLowerCase().includes(wanted));
      let sum = 0, frames = 0;
      for (let i = 0; i < n;) if (hits[frame[i]]) { sum += value[i]; frames++; i = end[i]; } else i++;
      found.textContent = frames ? `${percent(sum)} of the whole (${number(sum)})` : "nothing found";
    }
  };
  const go = (i) => { zoomed = cursor = i; draw(); describe(i, status); link(); };
  const at = (e) => e.target.dataset && e.target.dataset.i !== undefined ? +e.target.dataset.i : -1;

  svg.addEventListener("click", (e) => { const i = at(e); if (i >= 0) go(i); });
  svg.addEventListener("mousemove", (e) => {
    const i = at(e);
    tip.hidden = i < 0;
    if (i < 0) return;
    describe(i, tip);
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(e.clientX + 14, innerWidth - w - 8))}px`;
    tip.style.top = `${e.clientY + h + 24 > innerHeight ? e.clientY - h - 12 : e.clientY + 16}px`;
  });
  svg.addEventListener("mouseleave", () => { tip.hidden = true; });
  svg.addEventListener("keydown", (e) => {
    let to = cursor;
    const down = icicle ? "ArrowDown" : "ArrowUp", up = icicle ? "ArrowUp" : "ArrowDown";
    if (e.key === down) to = cursor + 1 < end[cursor] ? cursor + 1 : cursor;
    else if (e.key === up) to = Math.max(0, parent[cursor]);
    else if (e.key === "ArrowRight") to = end[cursor] < n && parent[end[cursor]] === parent[cursor] ? end[cursor] : cursor;
    else if (e.key === "ArrowLeft") { for (let i = parent[cursor] + 1; i < cursor; i = end[i]) to = i; }
    else if (e.key === "Enter") { go(cursor); e.preventDefault(); return; }
    else if (e.key === "Escape") { go(0); return; }
    else return;
    e.preventDefault();
    cursor = to;
    draw(); describe(cursor, status);
  });
  reset.addEventListener("click", () => go(0));
  turn.addEventListener("click", () => { icicle = !icicle; turn.textContent = icicle ? "Flame" : "Icicle"; draw(); link(); });
  search.addEventListener("input", () => { query = search.value.trim(); find(); draw(); link(); });
  search.addEventListener("keydown", (e) => { if (e.key === "Escape") { search.value = query = ""; find(); draw(); link(); svg.focus(); } });
  new ResizeObserver(() => draw()).observe(box);

  const follow = () => {
    const [id, ...rest] = location.hash.slice(1).split("/");
    if (id !== root.id) return;
    for (const part of rest) {
      if (/^n\d+$/.test(part)) zoomed = cursor = Math.min(n - 1, +part.slice(1));
      else if (part.startsWith("s=")) { try { query = decodeURIComponent(part.slice(2)); } catch { query = ""; } search.value = query; }
      else if (part === "flame") { icicle = false; turn.textContent = "Icicle"; }
    }
    find(); draw(); describe(zoomed, status);
    root.scrollIntoView();
  };
  describe(0, status);
  draw();
  follow();
  addEventListener("hashchange", follow);
  return search;
}

const searches = Array.from(document.querySelectorAll("figure.flame"), flame);
addEventListener("keydown", (e) => {
  if (e.key === "/" && searches.length && !/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) { e.preventDefault(); (searches.find((s) => s.closest("figure").contains(document.activeElement)) || searches[0]).focus(); }
});
const theme = document.querySelector("button.theme[data-for=flame]");
if (theme) theme.addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
})();
