// The report's own script: theme, sorting, filtering, copying, reading charts. Everything reads without it too.
"use strict";
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  // Storage throws where a browser gives files none.
  function remember(value) { try { localStorage.setItem("dbperf-theme", value); } catch (e) { return; } }
  function recall() { try { return localStorage.getItem("dbperf-theme"); } catch (e) { return null; } }
  var kept = recall();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;

  function all(selector, within) { return Array.prototype.slice.call((within || document).querySelectorAll(selector)); }
  function say(text) { document.getElementById("said").textContent = text; }

  function theme() {
    all("[data-theme-toggle]").forEach(function (button) {
      button.addEventListener("click", function () {
        var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
        root.dataset.theme = dark ? "light" : "dark";
        remember(root.dataset.theme);
        say(root.dataset.theme + " theme");
      });
    });
  }

  function key(cell) {
    var v = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
    var n = Number(v);
    return v !== "" && !isNaN(n) ? n : v.toLowerCase();
  }

  function sortable(table) {
    all("thead th", table).forEach(function (th, column) {
      if (th.dataset.nosort !== undefined) return;
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (th.firstChild) button.appendChild(th.firstChild);
      th.appendChild(button);
      button.addEventListener("click", function () {
        var first = th.classList.contains("num") && th.textContent.trim() !== "#" ? "descending" : "ascending";
        var other = first === "descending" ? "ascending" : "descending";
        var order = th.getAttribute("aria-sort") === first ? other : first;
        all("th", table.tHead).forEach(function (x) { x.removeAttribute("aria-sort"); });
        th.setAttribute("aria-sort", order);
        var sign = order === "ascending" ? 1 : -1;
        var rows = all("tr", table.tBodies[0]).map(function (row, i) { return [key(row.cells[column]), i, row]; });
        rows.sort(function (a, b) {
          if (typeof a[0] !== typeof b[0]) return typeof a[0] === "number" ? -1 : 1;
          return a[0] < b[0] ? -sign : a[0] > b[0] ? sign : a[1] - b[1];
        });
        var body = table.tBodies[0];
        rows.forEach(function (r) { body.appendChild(r[2]); });
        say("sorted by " + th.textContent.trim() + ", " + order);
      });
    });
  }

  function filter(input) {
    var table = document.getElementById(input.dataset.filter);
    var count = document.querySelector('[data-count="' + input.dataset.filter + '"]');
    var rows, texts;
    function apply() {
      // Reading a thousand rows is for those who filter, not for everyone who opens the page.
      rows = rows || all("tbody tr", table);
      texts = texts || rows.map(function (row) { return row.textContent.toLowerCase(); });
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
      rows.forEach(function (row, i) {
        row.hidden = !words.every(function (w) { return texts[i].indexOf(w) >= 0; });
        if (!row.hidden) shown += 1;
      });
      count.textContent = words.length ? shown + " of " + rows.length : "";
    }
    input.addEventListener("input", apply);
    input.addEventListener("keydown", function (e) { if (e.key === "Escape") { input.value = ""; apply(); } });
  }

  function copier(button) {
    var label = button.textContent;
    button.addEventListener("click", function () {
      var code = button.parentNode.querySelector("code");
      function done(ok) {
        button.textContent = ok ? "Copied" : "Select and copy";
        say(button.textContent);
        setTimeout(function () { button.textContent = label; }, 1600);
      }
      function select() {
        var range = document.createRange();
        range.selectNodeContents(code);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        done(document.execCommand("copy"));
      }
      if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(function () { done(true); }, select);
      else select();
    });
  }

  function readable(figure) {
    var svg = figure.querySelector("svg.chart"), tip = figure.querySelector(".tip");
    var points = JSON.parse(figure.dataset.hover), plot = figure.dataset.plot.split(" ").map(Number);
    if (!svg || !points.length) return;
    var rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
    rule.setAttribute("class", "cursor");
    rule.setAttribute("y1", plot[1]);
    rule.setAttribute("y2", plot[3]);
    var at = -1;
    function show(i) {
      at = i;
      tip.textContent = points[i][1];
      rule.setAttribute("x1", points[i][0]);
      rule.setAttribute("x2", points[i][0]);
      svg.appendChild(rule);
    }
    function hide() {
      at = -1;
      tip.textContent = "";
      if (rule.parentNode) rule.parentNode.removeChild(rule);
    }
    svg.addEventListener("pointermove", function (e) {
      var box = svg.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * svg.viewBox.baseVal.width, best = 0;
      points.forEach(function (p, i) { if (Math.abs(p[0] - x) < Math.abs(points[best][0] - x)) best = i; });
      show(best);
    });
    svg.addEventListener("pointerleave", hide);
    figure.tabIndex = 0;
    figure.addEventListener("keydown", function (e) {
      var step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) { if (e.key === "Escape") hide(); return; }
      e.preventDefault();
      show(Math.min(points.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : points.length - 1) : at + step)));
      say(points[at][1]);
    });
    figure.addEventListener("blur", hide);
  }

  // Lays out what was left for later (see the style sheet): a place to go to must not move any more.
  function whole() { root.classList.add("whole"); }
  if (location.hash.length > 1) whole();
  addEventListener("load", function () { (window.requestIdleCallback || setTimeout)(whole); });

  // A link into something folded opens it first; browsers differ in whether they do so themselves.
  function reveal() {
    var target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    whole();
    for (var e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    target.scrollIntoView();
  }

  document.addEventListener("DOMContentLoaded", function () {
    theme();
    all("table[data-sortable]").forEach(sortable);
    all("[data-filter]").forEach(filter);
    all("[data-copy]").forEach(copier);
    all("figure[data-hover]").forEach(readable);
    reveal();
  });
  addEventListener("hashchange", reveal);
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = all("details:not([open])");
    closed.forEach(function (d) { d.open = true; });
  });
  addEventListener("afterprint", function () { closed.forEach(function (d) { d.open = false; }); });
})();
