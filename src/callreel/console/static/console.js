// What the pages do beyond links and forms. Everything works without it, only less by itself.
"use strict";

document.documentElement.classList.add("js");

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
for (const field of document.querySelectorAll("[data-zone]")) field.value = zone;

// Light and dark: the server keeps the choice, the page need not be loaded again.
for (const form of document.querySelectorAll("[data-theme-switch]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const root = document.documentElement;
    const dark = root.dataset.theme === "dark"
      || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    const theme = dark ? "light" : "dark";
    root.dataset.theme = theme;
    document.querySelector("meta[name=color-scheme]").content = theme;
    button.value = theme;
    const body = new URLSearchParams(new FormData(form));
    body.set("theme", theme);
    fetch(form.action, { method: "POST", body, redirect: "manual" });
    document.dispatchEvent(new Event("callreel:theme"));
  });
}

// A menu closes by a click elsewhere, or Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// Copying.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// Ticking a whole page.
function prepareTicks() {
  const all = document.querySelector("[data-tick-all]");
  if (!all || !all.hidden) return;
  all.hidden = false;
  const form = all.closest("form");
  const boxes = () => [...form.querySelectorAll("input[name=id]")];
  const told = form.querySelector("[data-ticked]");
  const buttons = form.querySelectorAll(".bulk button");
  const count = () => {
    const ticked = boxes().filter((box) => box.checked).length;
    told.textContent = ticked ? `${ticked} ticked:` : "Tick some to";
    for (const button of buttons) button.disabled = !ticked;
    const box = all.querySelector("input");
    box.checked = ticked > 0 && ticked === boxes().length;
    box.indeterminate = ticked > 0 && !box.checked;
  };
  all.querySelector("input").addEventListener("change", (event) => {
    for (const box of boxes()) box.checked = event.target.checked;
    count();
  });
  form.addEventListener("change", count);
  count();
}
prepareTicks();
document.addEventListener("htmx:afterSwap", prepareTicks);

// What the server pushes.
let meters = null;

function showMeters() {
  if (!meters) return;
  for (const [sid, text] of Object.entries(meters.calls)) {
    const clock = document.querySelector(`[data-clock="${sid}"]`);
    if (clock) clock.textContent = text;
  }
  for (const [id, [level, words, loss]] of Object.entries(meters.streams)) {
    const meter = document.getElementById(id);
    if (!meter) continue;
    meter.firstElementChild.setAttribute("width", level);
    meter.setAttribute("aria-valuenow", Math.round(level));
    meter.setAttribute("aria-valuetext", words);
    document.querySelector(`[data-level="${id}"]`).textContent = words;
    document.querySelector(`[data-loss="${id}"]`).textContent = loss;
  }
}

function put(id, html) {
  const place = document.getElementById(id);
  if (!place) return;
  const focused = document.activeElement && place.contains(document.activeElement)
    ? document.activeElement.id : "";
  place.innerHTML = html;
  if (window.htmx) window.htmx.process(place);
  if (focused) document.getElementById(focused)?.focus();
}

const live = document.querySelector("[data-live], [data-live-list]");
if (live) {
  const source = new EventSource(live.dataset.live || live.dataset.liveList);
  const pulse = document.getElementById("pulse");
  source.addEventListener("open", () => { if (pulse) pulse.hidden = false; });
  source.addEventListener("error", () => { if (pulse) pulse.hidden = true; });
  source.addEventListener("signed-out", () => { source.close(); location.assign("/console/sign-in"); });
  if (live.dataset.live) {
    source.addEventListener("calls", (event) => { put("calls", event.data); showMeters(); });
    source.addEventListener("newest", (event) => put("newest", event.data));
    source.addEventListener("meters", (event) => { meters = JSON.parse(event.data); showMeters(); });
    document.addEventListener("htmx:afterSwap", showMeters);
  } else {
    let first = true;
    source.addEventListener("recordings", () => {
      const busy = live.querySelector("input[name=id]:checked");
      const moved = new URLSearchParams(location.search).has("page");
      if (!first && !busy && !moved && window.htmx) {
        window.htmx.ajax("GET", location.pathname + location.search, { target: "#list" });
      }
      first = false;
    });
  }
  addEventListener("pagehide", () => source.close());
}
