// Draws every plot with the colours of the page's theme, and again when the theme changes.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const config = { displayModeBar: false, responsive: true, scrollZoom: false };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function coloured(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
    }
    return value;
  }

  function axis(own) {
    const base = {
      gridcolor: "var(--grid)", linecolor: "var(--rule)", zerolinecolor: "var(--rule)", tickcolor: "var(--rule)",
      tickfont: { size: 11.5 }, fixedrange: true, automargin: true,
    };
    const axis = Object.assign(base, own || {});
    if (axis.title) axis.title = Object.assign({ font: { size: 12, color: "var(--muted)" }, standoff: 8 }, axis.title);
    return axis;
  }

  function layout(own, width) {
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "x unified",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: "var(--muted)" },
      margin: { l: 8, r: 12, t: 8, b: 40 }, dragmode: false,
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--rule)", font: { color: "var(--ink)", size: 12 } },
    };
    const whole = Object.assign(base, own);
    whole.xaxis = axis(Object.assign({ nticks: width < 420 ? 5 : 7 }, own.xaxis));
    whole.yaxis = axis(own.yaxis);
    return whole;
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById(id);
      const whole = coloured(layout(figure.layout, place.clientWidth), style);
      Plotly.react(place, coloured(figure.data, style), whole, config);
    }
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  }

  dark.addEventListener("change", draw);
  draw();
})();
