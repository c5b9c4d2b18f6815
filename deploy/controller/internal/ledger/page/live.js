// Shows who stops right now. The page is whole without it.
"use strict";
const box = document.getElementById("stopping"), said = document.getElementById("stopping-said");
const cell = (row, name, text, kind) => { const td = row.insertCell(); td.dataset.name = name; td.textContent = text; if (kind) td.className = kind; };
const show = (event) => {
  const pods = JSON.parse(event.data), body = document.createElement("tbody");
  for (const p of pods.list) {
    const row = body.insertRow();
    cell(row, "pod", p.pod); cell(row, "workload", p.workload); cell(row, "phase", p.phase);
    cell(row, "time left", p.left, "n"); cell(row, "in flight", p.in_flight, "n"); cell(row, "waits for", p.waiting);
  }
  box.hidden = pods.list.length === 0;
  box.tBodies[0].replaceWith(body);
  if (said.textContent !== pods.said) said.textContent = pods.said;
};
const connect = () => {
  const source = new EventSource("live");
  source.onmessage = show;
  source.onerror = () => {
    said.textContent = "The live view is away; it is tried again.";
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000); // after an answer such as 503 browsers give up themselves
  };
};
connect();
