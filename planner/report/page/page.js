"use strict";
// Draws every figure in the colours of the theme, and again when the theme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed(value, colours) {
  if (typeof value === "string") return value[0] === "@" ? colours(value.slice(1)) : value;
  if (Array.isArray(value)) return value.map((inner) => themed(inner, colours));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, colours)]));
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colours = (role) => style.getPropertyValue("--" + role).trim();
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = themed(figures[place.dataset.figure], colours);
    Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  }
}

draw();
dark.addEventListener("change", draw);
