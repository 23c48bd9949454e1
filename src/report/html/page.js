"use strict";
const $ = id => document.getElementById(id);
const groups = [...document.querySelectorAll("article")].map(node => ({
  node, state: node.dataset.state, hosts: node.dataset.hosts.split(" "),
  resources: [...node.querySelectorAll(".res")].map(part => ({ part, text: part.dataset.address.toLowerCase() })),
}));
const rows = [...document.querySelectorAll("tr[data-host]")];
const cells = [...document.querySelectorAll(".map a")];
const pattern = text => {
  const parts = text.toLowerCase().split(/[\s,]+/).filter(Boolean).map(part => part.includes("*")
    ? new RegExp("^" + part.split("*").map(piece => piece.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join(".*") + "$") : part);
  return name => !parts.length || parts.some(part => typeof part === "string" ? name.includes(part) : part.test(name));
};
const filter = () => {
  const host = pattern($("f-host").value), wanted = $("f-resource").value.trim().toLowerCase(), state = $("f-state").value;
  let shown = 0, hosts = 0;
  for (const group of groups) {
    const members = group.hosts.filter(name => host(name.toLowerCase())).length;
    let any = !wanted;
    for (const { part, text } of group.resources) {
      const fits = !wanted || text.includes(wanted);
      part.hidden = !fits;
      any ||= fits;
    }
    const fits = members > 0 && any && (!state || group.state === state);
    group.node.hidden = !fits;
    if (fits) { shown += 1; hosts += members; }
  }
  const visible = new Set(groups.filter(group => !group.node.hidden).map(group => group.node.id));
  for (const row of rows) row.hidden = !(host(row.dataset.host.toLowerCase()) && (!state || row.dataset.state === state) && (!wanted || visible.has(row.dataset.group)));
  for (const cell of cells) cell.hidden = !(host(cell.dataset.host.toLowerCase()) && (!state || cell.className === state) && (!wanted || visible.has(cell.hash.slice(1))));
  $("shown").textContent = `${shown} of ${groups.length} entries, ${hosts} hosts`;
};
for (const id of ["f-host", "f-resource", "f-state"]) $(id).addEventListener("input", filter);
const open = () => { const node = document.querySelector(location.hash || "#none"); node?.querySelector("details")?.setAttribute("open", ""); };
addEventListener("hashchange", open);
addEventListener("beforeprint", () => document.querySelectorAll("article details").forEach(node => { node.open = true; }));
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
  if (event.key === "Escape" && typing) { event.target.value = ""; filter(); event.target.blur(); return; }
  if (typing) return;
  if (event.key === "/") { event.preventDefault(); $("f-host").focus(); return; }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const list = groups.filter(group => !group.node.hidden).map(group => group.node.querySelector("summary"));
  const at = list.indexOf(document.activeElement);
  const next = list[at < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + step, 0), list.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "start" });
});
open();
filter();
