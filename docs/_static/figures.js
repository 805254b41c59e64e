// Plotly figures of the notebooks, drawn from the JSON beside each. Loaded before the page's body.

const NARROW = 560; // pixels: below, titles are wrapped and heatmaps show no numbers in their cells

function drawFigure(name) {
  const spec = JSON.parse(document.getElementById(name + "-data").textContent);
  const element = document.getElementById(name);
  if (element.clientWidth < NARROW) fitNarrow(spec, element);
  return Plotly.newPlot(element, spec);
}

function fitNarrow(spec, element) {
  const width = element.clientWidth - 40;
  for (const trace of spec.data) if (trace.type === "heatmap") delete trace.texttemplate;
  const title = spec.layout.title || {};
  let added = 0;
  for (const [part, size, pixels] of [[title, 15, 8.2], [title.subtitle || {}, 11.5, 6.2]]) {
    if (!part.text) continue;
    const lines = wrapped(part.text, Math.floor(width / pixels));
    part.text = lines.join("<br>");
    part.font = { ...part.font, size };
    added += (lines.length - 1) * size * 1.35;
  }
  if (!added) return;
  const margin = (spec.layout.margin = { t: 100, ...spec.layout.margin });
  margin.t += added;
  if (spec.layout.height) {
    spec.layout.height += added;
    element.style.height = spec.layout.height + "px";
  }
}

// The words of a title in lines of at most `most` characters, each line bold where the title is.
function wrapped(text, most) {
  const bold = /^<b>.*<\/b>$/.test(text);
  const lines = [];
  for (const word of text.replace(/<\/?b>/g, "").split(/<br>| /)) {
    const last = lines[lines.length - 1];
    if (last !== undefined && (last + " " + word).length <= most) lines[lines.length - 1] = last + " " + word;
    else lines.push(word);
  }
  return bold ? lines.map((line) => `<b>${line}</b>`) : lines;
}
